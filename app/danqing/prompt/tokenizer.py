"""The CLIP tokenizer of SD 1.x, byte-pair encoding over lower-cased text.

Radford et al. 2021 (https://arxiv.org/abs/2103.00020). The vocabulary ships with the package. Built on the `tokenizers`
library alone, so that counting tokens needs neither transformers nor torch.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import danqing

FOLDER = Path(danqing.__file__).parent / "assets" / "clip"
BOS = 49406
EOS = 49407
COMMA = 267
"""Token of ",</w>", where long prompts may be cut."""

_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Tokenizer:
    """Text to token ids, without start, end or truncation."""

    def __init__(self, folder: Path = FOLDER) -> None:
        from tokenizers import Regex, pre_tokenizers
        from tokenizers import Tokenizer as Backend
        from tokenizers.models import BPE

        model = BPE.from_file(
            str(folder / "vocab.json"),
            str(folder / "merges.txt"),
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
        )
        self._backend = Backend(model)
        self._backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_PATTERN), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, mended by ftfy, white space collapsed, lower-cased. Any string will do."""
        import ftfy

        clean = re.sub(r"\s+", " ", ftfy.fix_text(text)).strip().lower()
        return list(self._backend.encode(clean, add_special_tokens=False).ids)


@functools.cache
def default_tokenizer() -> Tokenizer:
    """The packaged tokenizer, built once (about 0.1 s)."""
    return Tokenizer()
