"""Textual inversion (Gal et al. 2022, https://arxiv.org/abs/2208.01618): a word's vectors, saved as the WebUI saves them."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from danqing.prompt.tokenizer import tokenizer_of
from danqing.train.files import save_torch
from danqing.train.methods.base import Facts, Method
from danqing.train.text import Encoding, Placeholder

STAR = 265
"""What the WebUI writes as the token of its "*"."""


class TextualInversion(Method):
    """Vectors of one word; the networks stay as they are."""

    kind = "embedding"

    def attach(self) -> None:
        encoder = self.networks.encoder
        module = encoder.module
        table = getattr(module, "text_model", module).embeddings.token_embedding.weight
        ids = tokenizer_of(encoder.kind).encode(self.recipe.initial_text) or tokenizer_of(encoder.kind).encode("*")
        rows = [ids[index % len(ids)] for index in range(self.recipe.vectors)]
        vectors = nn.Parameter(table.detach()[rows].float().clone())
        self.trained["vectors"] = vectors
        self.encode = Encoding(encoder, Placeholder(self.recipe.word, vectors), frozen=False)

    def save(self, path: Path, facts: Facts) -> None:
        model = self.networks.model
        vectors = self.trained["vectors"].detach().cpu().clone()
        table = {
            "string_to_token": {"*": STAR},
            "string_to_param": {"*": vectors},
            "name": self.recipe.name,
            "step": facts.steps,
            "sd_checkpoint": model.hash10,
            "sd_checkpoint_name": model.checkpoint.base,
            "danqing_recipe": self.recipe.told(),
            "danqing_data_sha256": facts.data_sha256,
        }
        save_torch(path, table)
