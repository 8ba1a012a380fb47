"""Chinese into English by a translation model: Marian, as OPUS-MT trained it (https://huggingface.co/Helsinki-NLP/opus-mt-zh-en).

The model lies in DATA/models/translation/zh-en in transformers' layout. It reads runs of Chinese only: weights, brackets and tags
of a prompt never reach it (`prompt.terms`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from danqing import torchvision_shim as torchvision_shim  # before transformers
from danqing.errors import DanqingError
from danqing.library.translator import check, folder_of

BATCH = 16
"""Runs that are translated at once."""
LONGEST = 64
"""Tokens of an answer: a run is a few words of a prompt."""


class Translator:
    """Keeps the model once it was asked for; on the CPU, where a few words take a fraction of a second."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._loaded: tuple[Any, Any] | None = None
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Free its memory."""
        with self._lock:
            self._loaded = None

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Each text in English, in order.

        Raises:
            DanqingError: `files_missing`, `model_broken`.
        """
        with self._lock:
            model, tokenizer = self._loaded = self._loaded or _load(self._data)
            parts = [texts[at : at + BATCH] for at in range(0, len(texts), BATCH)]
            return [line for part in parts for line in _translated(model, tokenizer, list(part))]


def _load(data: Path) -> tuple[Any, Any]:
    from transformers import MarianMTModel, MarianTokenizer

    check(data)
    folder = folder_of(data)
    try:
        # Weights as .bin are read by torch's weights-only loader; nothing in them can run.
        model = MarianMTModel.from_pretrained(folder, local_files_only=True, weights_only=True).eval()
        return model, MarianTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers and sentencepiece raise bare exceptions
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DanqingError("model_broken", name="translation/zh-en", reason=reason) from error


@torch.inference_mode()
def _translated(model: Any, tokenizer: Any, texts: list[str]) -> list[str]:
    wanted = tokenizer(texts, return_tensors="pt", padding=True, truncation=True)
    tokens = model.generate(**wanted, max_new_tokens=LONGEST, num_beams=2, do_sample=False)
    return [plain(tokenizer.decode(one, skip_special_tokens=True)) for one in tokens]


def plain(text: str) -> str:
    """A translation as a piece of a prompt: no sentence's end, and no sign that means something there."""
    cleaned = "".join(" " if letter in "()[]{}<>|:\\" else letter for letter in text)
    return " ".join(cleaned.split()).strip(" .,;!?\"'").lower()
