"""CUDA graphs: a forward's kernels are recorded once for a number of rows and replayed as one launch.

A graph is recorded for each bucket of rows; fewer rows are filled up with copies of the first, whose answers nobody reads. What
is recorded reads and writes fixed places, so inputs are copied in and the answer is copied out.
"""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from danqing.engine.compile_unet import Inputs

MOST = 12
"""Graphs kept: each holds the memory of a forward's intermediate results, which graphs of one pool share."""

Network = Callable[..., torch.Tensor]


class Recorder(Protocol):
    """Records what `run` launches; the answer is where a replay leaves its result, and what replays it."""

    def __call__(self, run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], None]]: ...


class CudaRecorder:
    """`torch.cuda.CUDAGraph`, all graphs in one memory pool: they are replayed one after another."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], None]]:
        # Twice beforehand on another stream: libraries make their work spaces and choose their algorithms at first calls.
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            out = run()
        return out, graph.replay


@dataclass(slots=True)
class _Graph:
    inputs: Inputs
    out: torch.Tensor
    replay: Callable[[], None]
    adapters: object = field(default=None)
    """Whose matrices lie in the slots' places."""


class Graphs:
    """The graphs of one device. One thread uses them.

    Args:
        buckets: numbers of rows, rising.
    """

    def __init__(self, buckets: Sequence[int], record: Recorder, most: int = MOST) -> None:
        self._buckets, self._record, self._most = tuple(buckets), record, most
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()

    def bucket(self, rows: int) -> int:
        """The smallest bucket that takes so many rows; 0 where none does."""
        place = bisect.bisect_left(self._buckets, rows)
        return self._buckets[place] if place < len(self._buckets) else 0

    def run(self, owner: Hashable, network: Network, inputs: Inputs, adapters: object = None) -> torch.Tensor:
        """What `network` makes of `inputs`, (rows, 4, h, w), through a graph where a bucket takes the rows.

        Args:
            owner: tells networks apart; `forget` drops its graphs.
            adapters: an object that stands for the matrices in the slots; the same one again is not copied again.
        """
        rows = inputs[0].shape[0]
        size = self.bucket(rows)
        if not size:
            return network(*inputs)
        rank = inputs[4][0].shape[0] if inputs[4] else 0
        key = (owner, size, tuple(inputs[0].shape[1:]), inputs[2].shape[1], rank)
        graph = self._graphs.get(key)
        if graph is None:
            graph = self._graphs[key] = self._recorded(network, inputs, size)
            while len(self._graphs) > self._most:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        _copy(graph, inputs, adapters)
        graph.replay()
        return graph.out[:rows].clone()

    def forget(self, owner: Hashable) -> None:
        """Drop the graphs of a network that leaves."""
        for key in [key for key in self._graphs if key[0] == owner]:  # type: ignore[index]
            del self._graphs[key]

    def _recorded(self, network: Network, inputs: Inputs, size: int) -> _Graph:
        x, t, context, added, downs, ups, residuals = inputs
        places: Inputs = (
            _filled(x, size),
            _filled(t, size),
            _filled(context, size),
            [_filled(one, size) for one in added],
            [one.clone() for one in downs],
            [one.clone() for one in ups],
            [_filled(one, size) for one in residuals],
        )
        out, replay = self._record(lambda: network(*places))
        return _Graph(places, out, replay)


def _filled(tensor: torch.Tensor, rows: int) -> torch.Tensor:
    """`rows` rows, the missing ones copies of the first. Never the tensor itself."""
    missing = rows - tensor.shape[0]
    if not missing:
        return tensor.clone()
    return torch.cat([tensor, tensor[:1].expand(missing, *tensor.shape[1:])])


def _copy(graph: _Graph, inputs: Inputs, adapters: object) -> None:
    """Put the inputs into the graph's places."""
    x, t, context, added, downs, ups, residuals = graph.inputs
    pairs = [(x, inputs[0]), (t, inputs[1]), (context, inputs[2])]
    pairs += [*zip(added, inputs[3], strict=True), *zip(residuals, inputs[6], strict=True)]
    for place, given in pairs:
        place[: given.shape[0]].copy_(given)
    if adapters is None or graph.adapters is not adapters:
        for place, given in (*zip(downs, inputs[4], strict=True), *zip(ups, inputs[5], strict=True)):
            place.copy_(given)
        graph.adapters = adapters
