"""Compiled code in memory: found in the store, read beside the drawing, put in place between two steps, dropped when it fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import torch

from danqing.engine.compile import BOUNDS, LEAST_GAIN
from danqing.engine.compile_store import Artefact, Store, Want
from danqing.engine.live import work

LOOK_SECONDS = 2.0
"""Between two looks into the store."""

Key = tuple[Hashable, str, int, int]
"""Whose weights, variant, height and width of the latent."""

Network = Callable[..., torch.Tensor]


def open_package(artefact: Artefact) -> Any:
    """The compiled code of an artefact, still without weights.

    Raises:
        RuntimeError: torch cannot load it.
    """
    return torch._inductor.aoti_load_package(str(artefact.package))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network in memory that compiled code may serve.

    `owner` tells it from all others. `bind` gives a package its weights; the answer is kept beside it.
    """

    owner: Hashable
    architecture: str
    dtype: torch.dtype
    bind: Callable[[Want, Any], Any]


@dataclass(frozen=True, slots=True)
class Ready:
    """Compiled code with weights. `network` has `load_constants`; `bound` is what `Candidate.bind` answered."""

    artefact: Artefact
    network: Any
    bound: Any = None


class Shelf:
    """The compiled code of the networks in memory. The engine's thread calls everything here.

    Args:
        store: None holds nothing.
        open_package: reads an artefact; the answer takes weights (`load_constants`) and inputs.
    """

    def __init__(
        self,
        store: Store | None,
        open_package: Callable[[Artefact], Any] = open_package,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self._open, self._clock = store, open_package, clock
        self.ready: dict[Key, Ready] = {}
        self.reading: tuple[Candidate, Want, Future[Ready | None]] | None = None
        self.unused: dict[Want, str] = {}
        """What is there and not used → why, a code of `compile.REASONS`."""
        self._looked = float("-inf")

    def tend(self, candidates: Callable[[], Iterable[Candidate]]) -> None:
        """Between two steps: take what has been read, look for more. Costs nothing worth telling when there is nothing new.

        Args:
            candidates: the networks in memory, those first that are to be served first.
        """
        if self.store is None:
            return
        if self.reading is not None:
            one, want, future = self.reading
            if not future.done():
                return
            self.reading = None
            self._take(one, want, future, candidates)
        if self._clock() - self._looked < LOOK_SECONDS:
            return
        for one in candidates():
            for want in self.store.wants(one.architecture):
                known = _key(one.owner, want) in self.ready or want in self.unused
                if not known and self._begin(one, want):
                    return
        self._looked = self._clock()

    def look(self) -> None:
        """Have the next `tend` look into the store at once."""
        self._looked = float("-inf")

    def refuse(self, key: Key, error: Exception) -> None:
        """Code has failed: it is not used again before it is made anew."""
        ready = self.ready.pop(key, None)
        if ready is not None and self.store is not None:
            self.unused[ready.artefact.want] = "broken"
            self.store.refuse(ready.artefact, f"it failed while drawing ({type(error).__name__})")

    def drop(self, owner: Hashable) -> list[Key]:
        """Forget the code of a network that leaves; the keys that there were."""
        keys = [key for key in self.ready if key[0] == owner]
        for key in keys:
            del self.ready[key]
        return keys

    def _begin(self, one: Candidate, want: Want) -> bool:
        """Begin to read what is wanted, where there is something that may be used."""
        store = self.store
        assert store is not None
        found = store.find(want)
        if found is None:
            return False
        if reason := _why_not(found, one.dtype):
            self.unused[want] = reason
            return False

        def read() -> Ready | None:
            artefact = store.checked(want)
            if artefact is None:
                return None
            package = self._open(artefact)
            return Ready(artefact, package, one.bind(want, package))

        self.reading = one, want, work(read)
        return True

    def _take(
        self,
        one: Candidate,
        want: Want,
        future: Future[Ready | None],
        candidates: Callable[[], Iterable[Candidate]],
    ) -> None:
        if future.exception() is not None:
            self.unused[want] = "broken"
            return
        ready = future.result()
        # It may have left memory while its code was read.
        if ready is not None and any(other.owner == one.owner for other in candidates()):
            self.ready[_key(one.owner, want)] = ready


def _key(owner: Hashable, want: Want) -> Key:
    return owner, want.variant, want.height, want.width


def _why_not(artefact: Artefact, dtype: torch.dtype) -> str:
    """Why an artefact that fits is not to be used, "" when it is."""
    if not artefact.difference <= BOUNDS.get(str(dtype).removeprefix("torch."), 0.0):
        return "differs"
    return "slower" if max(artefact.gain, artefact.graphs) < LEAST_GAIN else ""
