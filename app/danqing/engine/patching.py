"""Applies adapters to a model for the time of one forward pass, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from torch import nn

from danqing.adapters.files import Files, LoraFile
from danqing.adapters.keys import Places
from danqing.engine.calls import Adapter, Adapters
from danqing.engine.patches import Builder, Patches, Row, Use
from danqing.errors import DanqingError

if TYPE_CHECKING:
    from danqing.engine.models import Model

Part = Literal["text", "unet"]

MOST = 2 * 1024**3
"""Bytes of changed weights that are kept, over all models and sets of adapters."""

FILES = 512 * 1024**2
"""Bytes of adapter files that are kept."""


class Patcher:
    """Holds what has been worked out for models and sets of adapters. One thread uses it.

    Args:
        most: bytes of patches kept; the set in use stays in any case, weights beyond the limit are made anew each forward.
        files: bytes of adapter files kept.
    """

    def __init__(self, most: int = MOST, files: int = FILES) -> None:
        self._most = most
        self._files = Files(files)
        self._places: weakref.WeakKeyDictionary[nn.Module, Places] = weakref.WeakKeyDictionary()
        self._kept: OrderedDict[tuple[int, Part, Adapters], Patches] = OrderedDict()

    @contextlib.contextmanager
    def patched(self, model: Model, adapters: Adapters, part: Part) -> Iterator[None]:
        """Within the context the networks of `model` behave as with `adapters`.

        Args:
            part: "text" or "unet": which networks are about to run.

        Raises:
            DanqingError: `adapter_misfit`, `adapter_broken`, `model_broken` or `model_unsafe`.
        """
        active = active_in(adapters, part)
        if not active:
            yield
            return
        remove = self.prepare(model, active, part).apply()
        try:
            yield
        finally:
            remove()

    def additions(self, model: Model, adapters: Adapters) -> dict[nn.Module, Row] | None:
        """The low-rank additions to the UNet's modules, {} without adapters; None where these do more than that.

        Raises:
            DanqingError: as `patched`.
        """
        active = active_in(adapters, "unet")
        return self.prepare(model, active, "unet").additions if active else {}

    def prepare(self, model: Model, adapters: Adapters, part: Part) -> Patches:
        """The patches of a set, worked out now or remembered."""
        key = (id(model.unet), part, adapters)
        found = self._kept.get(key)
        if found is None:
            places = self._places_of(model)
            self._make_room(0)
            found = self._kept[key] = self._build(model, places, adapters, part)
        self._kept.move_to_end(key)
        self._make_room(1)
        return found

    def _build(self, model: Model, places: Places, adapters: Adapters, part: Part) -> Patches:
        builder = Builder(self._most)
        uses: dict[nn.Module, list[Use]] = {}
        names: dict[nn.Module, str] = {}
        hypernetworks = []
        for adapter in adapters:
            file = self._files.get(adapter.kind, adapter.path, adapter.stamp)
            if isinstance(file, LoraFile):
                strength = adapter.text if part == "text" else adapter.unet
                for module, use in _uses(file, places, part, strength, adapter.rank, model):
                    uses.setdefault(module, []).append(use)
                    names[module] = file.name
            else:
                hypernetworks.append((file, adapter))
        for module, row in uses.items():
            try:
                builder.add(module, row)
            except (ValueError, RuntimeError, KeyError, IndexError) as error:
                raise _misfit(names[module], model, str(error).splitlines()[0][:200]) from None
        for file, adapter in hypernetworks:
            if not builder.add_hypernetwork(model.unet, file, adapter.unet):
                widths = ", ".join(str(width) for width in sorted(file.states))
                raise _misfit(file.name, model, f"its widths ({widths}) are not the model's")
        return builder.finish()

    def _places_of(self, model: Model) -> Places:
        found = self._places.get(model.unet)
        if found is None:
            found = self._places[model.unet] = places_of(model)
            # A model that has left memory must not live on in its patches.
            weakref.finalize(model.unet, self._forget, id(model.unet))
        return found

    def forget(self) -> None:
        """Let go of every patch; they are read again when they are wanted."""
        self._kept.clear()

    def _forget(self, owner: int) -> None:
        for key in [key for key in self._kept if key[0] == owner]:
            del self._kept[key]

    def _make_room(self, least: int) -> None:
        while len(self._kept) > least and sum(patches.bytes for patches in self._kept.values()) > self._most:
            self._kept.popitem(last=False)


_places: weakref.WeakKeyDictionary[nn.Module, Places] = weakref.WeakKeyDictionary()


def places_of(model: Model) -> Places:
    """Where a model's modules are found by their names; worked out once. One thread uses this."""
    found = _places.get(model.unet)
    if found is None:
        found = _places[model.unet] = Places(model.unet, encoders_of(model))
    return found


def active_in(adapters: Adapters, part: Part) -> Adapters:
    """Those that change this part; the other part's strength is put to 0, so that equal work has equal keys."""
    if part == "text":
        return tuple(
            Adapter(a.kind, a.path, a.text, 0.0, a.stamp, a.rank) for a in adapters if a.kind == "lora" and a.text
        )
    return tuple(Adapter(a.kind, a.path, 0.0, a.unet, a.stamp, a.rank) for a in adapters if a.unet)


def encoders_of(model: Model) -> list[tuple[str, nn.Module]]:
    """The text encoders under the names that adapter files have for them."""
    return [("te2" if encoder.kind == "open_clip_g" else "te1", encoder.module) for encoder in model.encoders]


def _uses(
    file: LoraFile, places: Places, part: Part, strength: float, rank: int, model: Model
) -> Iterator[tuple[nn.Module, Use]]:
    missing = 0
    for stem, layer in file.layers.items():
        place = places.find(stem)
        if place is None:
            missing += 1
        elif place.part == part:
            yield place.module, Use(layer, strength, rank)
    if missing and missing == len(file.layers):
        raise _misfit(
            file.name, model, f"none of its {missing} layers is in this model ({next(iter(file.layers))[:80]})"
        )


def _misfit(name: str, model: Model, reason: str) -> DanqingError:
    return DanqingError("adapter_misfit", name=name, model=model.checkpoint.name, reason=reason)
