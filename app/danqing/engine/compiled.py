"""Compiled networks in the engine. Nothing here compiles.

A forward uses compiled code where some fits it and runs eagerly where none does; code that fails is not used again. What is used
has been measured on this very device by the process that made it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from danqing.engine import compile_unet, compile_vae
from danqing.engine.compile import REASONS
from danqing.engine.compile_store import Artefact, Store, Want
from danqing.engine.compile_unet import Inputs, Slots, SlotTensors
from danqing.engine.compiled_shelf import Candidate, Key, Shelf, open_package
from danqing.engine.compiled_vae import CompiledVaes
from danqing.engine.device_graphs import Graphs
from danqing.engine.patches import Row as LowRank
from danqing.engine.unet import Batch

if TYPE_CHECKING:
    from danqing.engine.models import Model

ADAPTERS = 8
"""Sets of adapters laid out over the slots and kept."""

Additions = Mapping[nn.Module, LowRank]


class CompiledNetworks:
    """The compiled code of the models in memory. The engine's thread calls everything here.

    Args:
        store: None switches it off.
        graphs: records what a GPU launches, where the artefact says that this works.
        open_package: see `Shelf`.
    """

    def __init__(
        self,
        store: Store | None,
        graphs: Graphs | None = None,
        open_package: Callable[[Artefact], Any] = open_package,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shelf = Shelf(store, open_package, clock)
        self.vaes = CompiledVaes(self.shelf)
        self._graphs = graphs
        self._architectures: dict[str, str] = {}
        self._slots: dict[str, Slots] = {}
        self._laid: OrderedDict[Any, SlotTensors | None] = OrderedDict()
        self.forwards = 0
        """Of UNets that ran compiled."""

    def tend(self, models: Sequence[Model], vaes: Sequence[Any] = ()) -> None:
        """Between two steps: see `Shelf.tend`.

        Args:
            models: in memory, the least recently used first.
            vaes: from files of their own.
        """
        self.shelf.tend(lambda: self._candidates(models, vaes))

    def _candidates(self, models: Sequence[Model], vaes: Sequence[Any]) -> Iterator[Candidate]:
        for model in reversed(models):
            yield Candidate(model.key, self._architecture(model), model.unet.dtype, partial(_bind, model))
        yield from self.vaes.candidates([*vaes, *(model.vae for model in reversed(models))])

    def network(self, batch: Batch, additions: Additions | None, adapters: Any) -> Callable[[], torch.Tensor] | None:
        """What runs a batch, or None where the eager network must.

        Args:
            additions: the low-rank additions of the adapters in use, {} for none; None where they do more than that.
        """
        residuals = batch.residuals
        if not self.shelf.ready or additions is None or residuals is None:
            return None
        model, x = batch.step.model, batch.step.x
        key = _key_of(batch, additions)
        ready = self.shelf.ready.get(key)
        if ready is None:
            return None
        full = ready.artefact.want.variant == "full"
        laid = self._laid_out(model, additions, adapters) if full else SlotTensors([], [], 0)
        if laid is None:
            return None
        if full and not residuals:
            shapes = compile_unet.residual_shapes(model.unet, *x.shape[-2:])
            residuals = [x.new_zeros(len(x), *shape) for shape in shapes]
        whole: Inputs = (x, batch.step.t, batch.step.context, batch.added, laid.downs, laid.ups, residuals)
        graphs = self._graphs if ready.artefact.graphs else None

        def run() -> torch.Tensor:
            self.forwards += 1
            if graphs is None:
                out: torch.Tensor = ready.network(*whole)
                return out
            return graphs.run(key, ready.network, whole, laid)

        return run

    def refuse(self, batch: Batch, additions: Additions | None, error: Exception) -> None:
        """What `network` gave for these has failed: it is not used again before it is made anew."""
        self.shelf.refuse(_key_of(batch, additions), error)

    def forget(self, model: Model) -> None:
        """Drop what belongs to a model that leaves memory."""
        for key in self.shelf.drop(model.key):
            if self._graphs is not None:
                self._graphs.forget(key)
        self.vaes.drop(model.vae)
        self._slots.pop(model.key, None)
        self._architectures.pop(model.key, None)
        for key in [key for key in self._laid if key[0] == model.key]:
            del self._laid[key]

    def relax(self) -> None:
        """Let go of what is only kept for speed."""
        self._laid.clear()
        self.vaes.relax()

    def report(self) -> dict[str, Any]:
        """`state`: "eager", "compiling" or "compiled"; `reason`: a code of `REASONS`, "" for none, `en` and `zh` its sentence;
        `gain`: how many times faster compiled UNets were when they were made, `vae_gain` VAEs, 0 where none is in use; `seconds`:
        that making them took."""
        found: dict[str, Any] = {
            "state": "eager",
            "reason": "",
            "en": "",
            "zh": "",
            "gain": 0.0,
            "vae_gain": 0.0,
            "seconds": 0.0,
        }
        if self.shelf.store is None:
            return found
        told = self.shelf.store.state()
        artefacts = [ready.artefact for ready in self.shelf.ready.values()]
        unets = [max(one.gain, one.graphs) for one in artefacts if not _is_vae(one.want)]
        found |= {
            "state": "compiled" if unets else "eager",
            "gain": min(unets, default=0.0),
            "vae_gain": min((one.gain for one in artefacts if _is_vae(one.want)), default=0.0),
            "seconds": round(sum(one.seconds for one in artefacts), 1),
        }
        if told["state"] == "compiling":
            return found if unets else found | {"state": "compiling"}
        return found | self._why(told, bool(unets))

    def _why(self, told: Mapping[str, Any], compiled: bool) -> dict[str, str]:
        """Why compiled code is not in use, where there is something to say: `reason`, `en`, `zh`. That some is no faster is worth
        telling where no other of the UNet is in use.
        """
        reasons = [why for want, why in self.shelf.unused.items() if why != "slower" or not (compiled or _is_vae(want))]
        reason = next(iter(reasons), "") or (told.get("reason", "") if told["state"] == "failed" else "")
        if reason not in REASONS:
            return {}
        en, zh = REASONS[reason]
        detail = str(told.get("detail", ""))[:200] if reason == told.get("reason") else ""
        return {
            "reason": reason,
            "en": f"{en}{f' ({detail})' if detail else ''}",
            "zh": f"{zh}{f'（{detail}）' if detail else ''}",
        }

    def _laid_out(self, model: Model, additions: Additions, adapters: Any) -> SlotTensors | None:
        key = (model.key, adapters)
        if key not in self._laid:
            slots = self._slots.get(model.key)
            if slots is None:
                slots = self._slots[model.key] = Slots(model.unet)
            self._laid[key] = slots.laid_out(additions)
            while len(self._laid) > ADAPTERS:
                self._laid.popitem(last=False)
        self._laid.move_to_end(key)
        return self._laid[key]

    def _architecture(self, model: Model) -> str:
        if model.key not in self._architectures:
            self._architectures[model.key] = compile_unet.architecture_of(model.unet)
        return self._architectures[model.key]


def _key_of(batch: Batch, additions: Additions | None) -> Key:
    height, width = batch.step.x.shape[-2:]
    return batch.step.model.key, "full" if additions or batch.residuals else "plain", height, width


def _bind(model: Model, want: Want, package: Any) -> None:
    constants = compile_unet.constants_of(model.unet, package.get_constant_fqns())
    package.load_constants(constants, check_full_update=True, user_managed=True)


def _is_vae(want: Want) -> bool:
    return want.variant in compile_vae.VARIANTS
