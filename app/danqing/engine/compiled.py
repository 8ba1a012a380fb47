"""Compiled UNets in the engine: found in the store, read beside the drawing, put in place between two steps.

Nothing here compiles. A forward uses compiled code where some fits it and runs eagerly where none does; code that fails is not
used again. What is used has been measured on this very device by the process that made it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from danqing.engine import compile_unet
from danqing.engine.compile import BOUNDS, LEAST_GAIN, REASONS
from danqing.engine.compile_store import Artefact, Store, Want
from danqing.engine.compile_unet import Inputs, Slots, SlotTensors
from danqing.engine.device_graphs import Graphs
from danqing.engine.live import work
from danqing.engine.patches import Row as LowRank
from danqing.engine.unet import Batch

if TYPE_CHECKING:
    from danqing.engine.models import Model

LOOK_SECONDS = 2.0
"""Between two looks into the store."""

ADAPTERS = 8
"""Sets of adapters laid out over the slots and kept."""

Additions = Mapping[nn.Module, LowRank]
Network = Callable[..., torch.Tensor]


def open_package(artefact: Artefact) -> Any:
    """The compiled code of an artefact, still without weights.

    Raises:
        RuntimeError: torch cannot load it.
    """
    return torch._inductor.aoti_load_package(str(artefact.package))


@dataclass(frozen=True, slots=True)
class _Ready:
    artefact: Artefact
    network: Network


class CompiledUnets:
    """The compiled code of the models in memory. The engine's thread calls everything here.

    Args:
        store: None switches it off.
        graphs: records what a GPU launches, where the artefact says that this works.
        open_package: reads an artefact; the answer takes weights (`load_constants`) and inputs.
    """

    def __init__(
        self,
        store: Store | None,
        graphs: Graphs | None = None,
        open_package: Callable[[Artefact], Any] = open_package,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._graphs, self._open, self._clock = store, graphs, open_package, clock
        self._ready: dict[tuple[str, str, int, int], _Ready] = {}
        self._reading: tuple[Model, Want, Future[_Ready | None]] | None = None
        self._architectures: dict[str, str] = {}
        self._slots: dict[str, Slots] = {}
        self._laid: OrderedDict[Any, SlotTensors | None] = OrderedDict()
        self._unused: dict[str, str] = {}
        """Name of an artefact that is there and not used → why, a code of `REASONS`."""
        self._looked = float("-inf")
        self.forwards = 0
        """That ran compiled."""

    def tend(self, models: Sequence[Model]) -> None:
        """Between two steps: take what has been read, look for more. Costs nothing worth telling when there is nothing new."""
        if self._store is None:
            return
        if self._reading is not None:
            model, want, future = self._reading
            if not future.done():
                return
            self._reading = None
            self._take(model, want, future)
        if self._clock() - self._looked < LOOK_SECONDS:
            return
        for model in reversed(models):
            for want in self._store.wants(self._architecture(model)):
                known = self._key(model, want) in self._ready or want.name in self._unused
                if not known and self._begin(model, want):
                    return
        self._looked = self._clock()

    def network(self, batch: Batch, additions: Additions | None, adapters: Any) -> Callable[[], torch.Tensor] | None:
        """What runs a batch, or None where the eager network must.

        Args:
            additions: the low-rank additions of the adapters in use, {} for none; None where they do more than that.
        """
        residuals = batch.residuals
        if not self._ready or additions is None or residuals is None:
            return None
        model, x = batch.step.model, batch.step.x
        key = _key_of(batch, additions)
        ready = self._ready.get(key)
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
                return ready.network(*whole)
            return graphs.run(key, ready.network, whole, laid)

        return run

    def refuse(self, batch: Batch, additions: Additions | None, error: Exception) -> None:
        """What `network` gave for these has failed: it is not used again before it is made anew."""
        ready = self._ready.pop(_key_of(batch, additions), None)
        if ready is not None and self._store is not None:
            self._unused[ready.artefact.want.name] = "broken"
            self._store.refuse(ready.artefact, f"it failed while drawing ({type(error).__name__})")

    def forget(self, model: Model) -> None:
        """Drop what belongs to a model that leaves memory."""
        for key in [key for key in self._ready if key[0] == model.key]:
            del self._ready[key]
            if self._graphs is not None:
                self._graphs.forget(key)
        self._slots.pop(model.key, None)
        self._architectures.pop(model.key, None)
        for key in [key for key in self._laid if key[0] == model.key]:
            del self._laid[key]

    def relax(self) -> None:
        """Let go of what is only kept for speed."""
        self._laid.clear()

    def report(self) -> dict[str, Any]:
        """`state`: "eager", "compiling" or "compiled"; `reason`: a code of `REASONS`, "" for none, `en` and `zh` its sentence;
        `gain`: how many times faster compiled code was when it was made; `seconds`: that making it took."""
        found: dict[str, Any] = {"state": "eager", "reason": "", "en": "", "zh": "", "gain": 0.0, "seconds": 0.0}
        if self._store is None:
            return found
        told = self._store.state()
        if self._ready:
            artefacts = [ready.artefact for ready in self._ready.values()]
            found |= {
                "state": "compiled",
                "gain": min(max(one.gain, one.graphs) for one in artefacts),
                "seconds": round(sum(one.seconds for one in artefacts), 1),
            }
        if told["state"] == "compiling":
            return found if self._ready else found | {"state": "compiling"}
        reason = next(iter(self._unused.values()), "") or (told.get("reason", "") if told["state"] == "failed" else "")
        if reason in REASONS and not (self._ready and reason == "slower"):
            en, zh = REASONS[reason]
            detail = str(told.get("detail", ""))[:200] if reason == told.get("reason") else ""
            found |= {
                "reason": reason,
                "en": f"{en}{f' ({detail})' if detail else ''}",
                "zh": f"{zh}{f'（{detail}）' if detail else ''}",
            }
        return found

    def _begin(self, model: Model, want: Want) -> bool:
        """Begin to read what is wanted, where there is something that may be used."""
        store = self._store
        assert store is not None
        found = store.find(want)
        if found is None:
            return False
        if reason := _why_not(found, model):
            self._unused[want.name] = reason
            return False

        def read() -> _Ready | None:
            artefact = store.checked(want)
            if artefact is None:
                return None
            package = self._open(artefact)
            constants = compile_unet.constants_of(model.unet, package.get_constant_fqns())
            package.load_constants(constants, check_full_update=True, user_managed=True)
            return _Ready(artefact, package)

        self._reading = model, want, work(read)
        return True

    def _take(self, model: Model, want: Want, future: Future[_Ready | None]) -> None:
        error = future.exception()
        if error is not None:
            self._unused[want.name] = "broken"
            return
        ready = future.result()
        if ready is not None and model.key in self._architectures:
            self._ready[self._key(model, want)] = ready

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

    def _key(self, model: Model, want: Want) -> tuple[str, str, int, int]:
        return model.key, want.variant, want.height, want.width


def _key_of(batch: Batch, additions: Additions | None) -> tuple[str, str, int, int]:
    height, width = batch.step.x.shape[-2:]
    return batch.step.model.key, "full" if additions or batch.residuals else "plain", height, width


def _why_not(artefact: Artefact, model: Model) -> str:
    """Why an artefact that fits is not to be used, "" when it is."""
    bound = BOUNDS.get(str(model.unet.dtype).removeprefix("torch."), 0.0)
    if not artefact.difference <= bound:
        return "differs"
    return "slower" if max(artefact.gain, artefact.graphs) < LEAST_GAIN else ""
