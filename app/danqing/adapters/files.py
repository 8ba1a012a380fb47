"""Adapter files as they are used: read once, kept while there is room."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from danqing.adapters.hypernetwork import Hypernetwork, hypernetwork_of
from danqing.adapters.keys import split
from danqing.adapters.layers import Layer, layer_of
from danqing.adapters.reading import Contents, read
from danqing.errors import DanqingError

EMBEDDING = "bundle_emb."
"""How the tensors of a bundled textual inversion begin: `bundle_emb.NAME.string_to_param.*`."""


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A LoRA or LyCORIS file. layers: what the file calls a module → what it does to it."""

    name: str
    layers: Mapping[str, Layer]
    embeddings: Mapping[str, Mapping[str, torch.Tensor]]
    """Bundled textual inversions: name → the rest of each tensor's name (`string_to_param.*`, `clip_l`, …) → vectors."""


AdapterFile = LoraFile | Hypernetwork


def lora_of(name: str, contents: Contents) -> LoraFile:
    """The layers of a LoRA or LyCORIS file.

    Raises:
        DanqingError: `adapter_broken`, when it holds none, or what are no numbers.
    """
    groups: dict[str, dict[str, torch.Tensor]] = {}
    embeddings: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in contents.tensors.items():
        if key.startswith(EMBEDDING):
            owner, _, rest = key.removeprefix(EMBEDDING).partition(".")
            embeddings.setdefault(owner, {})[rest] = tensor
        elif (parts := split(key)) is not None:
            groups.setdefault(parts[0], {})[parts[1]] = tensor
    alphas = _peft_alphas(contents.metadata)
    try:
        layers = {stem: layer for stem, tensors in groups.items() if (layer := layer_of(alphas.fill(stem, tensors)))}
    except (ValueError, RuntimeError, IndexError) as error:
        raise DanqingError("adapter_broken", name=name, reason=str(error).splitlines()[0][:200]) from None
    if not layers and not embeddings:
        raise DanqingError("adapter_broken", name=name, reason=_what_else(contents.tensors))
    return LoraFile(name, layers, embeddings)


def _what_else(tensors: Mapping[str, torch.Tensor]) -> str:
    if any(key.startswith("model.diffusion_model.") for key in tensors):
        return "it is a checkpoint; it belongs into models/Stable-diffusion"
    if not tensors:
        return "it holds no tensors"
    return f"it is no LoRA or LyCORIS of a known kind (it holds {next(iter(tensors))[:80]})"


@dataclass(frozen=True, slots=True)
class _Alphas:
    """PEFT keeps alpha beside the tensors: one for all, others by module, divided by the rank or by its root."""

    rows: Mapping[str, Any]

    def fill(self, stem: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The same tensors with the scale that the metadata gives, where the tensors themselves give none."""
        if "down" not in tensors or tensors.keys() & {"alpha", "scale"}:
            return tensors
        network, _, path = stem.removeprefix("base_model.model.").partition(".")
        alpha = self._of(network + ".", path)
        if alpha is None:
            return tensors
        root = 0.5 if self.rows.get(network + ".use_rslora") else 1.0
        return {**tensors, "scale": torch.tensor(float(alpha) / tensors["down"].shape[0] ** root)}

    def _of(self, network: str, path: str) -> float | None:
        patterns = self.rows.get(network + "alpha_pattern")
        named = patterns.items() if isinstance(patterns, dict) else ()
        found = next((alpha for end, alpha in named if path == end or path.endswith("." + end)), None)
        alpha = self.rows.get(network + "lora_alpha") if found is None else found
        return float(alpha) if isinstance(alpha, int | float) and not isinstance(alpha, bool) else None


def _peft_alphas(metadata: Mapping[str, str]) -> _Alphas:
    """diffusers writes PEFT's configuration as JSON under this key, each row with the network's name before it."""
    try:
        rows = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError):
        rows = {}
    return _Alphas(rows if isinstance(rows, dict) else {})


class Files:
    """Reads adapter files and keeps the latest used.

    Args:
        most: bytes of files kept; the last one read stays in any case.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[str, Path, int], tuple[AdapterFile, int]] = OrderedDict()

    def get(self, kind: str, path: Path, stamp: int) -> AdapterFile:
        """The file, parsed. `stamp` tells one state of it from another.

        Raises:
            DanqingError: `adapter_broken`, `model_broken` or `model_unsafe`.
        """
        key = (kind, path, stamp)
        if key not in self._kept:
            contents = read(path)
            parse = hypernetwork_of if kind == "hypernet" else lora_of
            self._kept[key] = parse(path.name, contents), contents.size
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > self._most:
            self._kept.popitem(last=False)
        return self._kept[key][0]
