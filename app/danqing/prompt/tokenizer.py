"""The CLIP tokenizer of SD 1.x, byte-pair encoding over lower-cased text.

Radford et al. 2021 (https://arxiv.org/abs/2103.00020). The vocabulary ships with the package. Built on the `tokenizers`
library alone, so that counting tokens needs neither transformers nor torch.
"""

from __future__ import annotations

import functools
import html
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import danqing

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

FOLDER = Path(danqing.__file__).parent / "assets" / "clip"
BOS = 49406
EOS = 49407
COMMA = 267
"""Token of ",</w>", where long prompts may be cut."""

_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


_SPECIAL = {
    "clip_l": {"<|startoftext|>": BOS, "<|endoftext|>": EOS},
    "open_clip": {"<start_of_text>": BOS, "<end_of_text>": EOS},
}
"""Words that each tokenizer reads as its own start and end."""


class Tokenizer:
    """Text to token ids, without start, end or truncation.

    Args:
        open_clip: read text as OpenCLIP's tokenizer does (SD 2, SDXL's second encoder): HTML entities are resolved twice.
    """

    def __init__(self, folder: Path = FOLDER, open_clip: bool = False) -> None:
        self._open_clip = open_clip
        self._backend = _backend(folder)
        self._special = _SPECIAL["open_clip" if open_clip else "clip_l"]
        self._marks = re.compile("|".join(f"({re.escape(word)})" for word in self._special))

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, mended by ftfy, white space collapsed, lower-cased. Any string will do."""
        if self._open_clip:
            text = html.unescape(html.unescape(_mended(text))).lower()
        found: list[int] = []
        for part in self._marks.split(text):
            if part in self._special:
                found.append(self._special[part])
            elif part:
                clean = part if self._open_clip else _mended(part)
                found += self._backend.encode(_collapsed(clean), add_special_tokens=False).ids
        return found

    @functools.cached_property
    def brackets(self) -> dict[int, float]:
        """The tokens that hold brackets and by how much they change the weight of what follows (old emphasis)."""
        factors = {"(": 1.1, ")": 1 / 1.1, "[": 1 / 1.1, "]": 1.1}
        found = {
            token: math.prod(factors.get(letter, 1.0) for letter in word)
            for word, token in self._backend.get_vocab().items()
            if factors.keys() & set(word)
        }
        return {token: factor for token, factor in found.items() if factor != 1.0}


def _mended(text: str) -> str:
    import ftfy

    return ftfy.fix_text(text)


def _collapsed(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().lower()


@functools.cache
def _backend(folder: Path) -> Backend:
    from tokenizers import Regex, pre_tokenizers
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import BPE

    model = BPE.from_file(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        continuing_subword_prefix="",
        end_of_word_suffix="</w>",
    )
    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return backend


@functools.cache
def default_tokenizer() -> Tokenizer:
    """The packaged tokenizer, built once (about 0.1 s)."""
    return Tokenizer()


@functools.cache
def tokenizer_of(kind: str) -> Tokenizer:
    """The tokenizer of an encoder: "clip_l", "open_clip_h" or "open_clip_g"."""
    return Tokenizer(open_clip=True) if kind.startswith("open_clip") else default_tokenizer()
