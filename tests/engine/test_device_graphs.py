"""What is ours of CUDA graphs and of timing on a GPU, with torch's own parts played by the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch

from danqing.engine.compile_unet import Inputs
from danqing.engine.device_graphs import Graphs
from danqing.engine.device_watch import DeviceWatch, HostWatch


@dataclass
class Recorder:
    """In the place of `torch.cuda.CUDAGraph`: what was recorded runs again on the same tensors and writes to the same place."""

    recorded: list[int] = field(default_factory=list)

    def __call__(self, run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], None]]:
        out = run()
        self.recorded.append(len(out))
        return out, lambda: out.copy_(run())  # type: ignore[return-value]


def network(x: torch.Tensor, t: torch.Tensor, context: torch.Tensor, *lists: list[torch.Tensor]) -> torch.Tensor:
    """Every input shows in the answer; no row shows in another's."""
    added, downs, ups, residuals = lists
    out = x * t[:, None, None, None] + context.sum((1, 2))[:, None, None, None]
    for one in (*added, *residuals):
        out = out + one.flatten(1).sum(1)[:, None, None, None]
    for down, up in zip(downs, ups, strict=True):
        out = out + (up @ down).sum()
    return out


def inputs(rows: int, seed: int = 0, tokens: int = 7, rank: int = 0) -> Inputs:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    slots = ([draw(rank, 3)], [draw(5, rank)]) if rank else ([], [])
    return draw(rows, 4, 2, 2), draw(rows), draw(rows, tokens, 3), [draw(rows, 6)], *slots, [draw(rows, 2, 2)]


@pytest.mark.parametrize(("rows", "bucket"), [(1, 1), (2, 2), (3, 4), (5, 8), (8, 8), (9, 0)])
def test_the_bucket_is_the_smallest_that_takes_the_rows(rows: int, bucket: int) -> None:
    assert Graphs((1, 2, 4, 8), Recorder()).bucket(rows) == bucket


def test_a_replay_answers_as_the_network_does_for_any_number_of_rows() -> None:
    record = Recorder()
    graphs = Graphs((2, 4), record)
    for seed, rows in enumerate((3, 4, 3, 2, 1, 5)):
        given = inputs(rows, seed)
        answer = graphs.run("unet", network, given)
        assert torch.allclose(answer, network(*given), atol=1e-5), rows
        assert len(answer) == rows
    assert record.recorded == [4, 2]  # one recording for a bucket; five rows fit none and run as they are


def test_an_answer_is_not_overwritten_by_the_next_replay() -> None:
    graphs = Graphs((2,), Recorder())
    first = graphs.run("unet", network, inputs(2, 1))
    before = first.clone()
    graphs.run("unet", network, inputs(2, 2))
    assert torch.equal(first, before)


def test_another_lora_is_copied_into_the_same_graph() -> None:
    record = Recorder()
    graphs = Graphs((2,), record)
    for seed, owner in ((1, "a"), (2, "b"), (2, "b"), (3, "c")):
        given = inputs(2, seed, rank=8)
        assert torch.allclose(graphs.run("unet", network, given, owner), network(*given), atol=1e-4)
    assert record.recorded == [2]
    given = inputs(2, 4, rank=16)  # another rank is another shape
    assert torch.allclose(graphs.run("unet", network, given, "d"), network(*given), atol=1e-4)
    assert record.recorded == [2, 2]


def test_graphs_are_bounded_and_leave_with_their_network() -> None:
    record = Recorder()
    graphs = Graphs((2,), record, most=2)
    for tokens in (7, 14, 21, 7):
        graphs.run("unet", network, inputs(2, tokens=tokens))
    assert len(record.recorded) == 4  # the first had to go
    graphs.forget("unet")
    graphs.run("unet", network, inputs(2))
    assert len(record.recorded) == 5


@dataclass
class Gpu:
    """A device that works through a queue by its own clock, and events as torch's are."""

    now: float = 0.0
    waits: int = 0

    def work(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Event:
    gpu: Gpu
    at: float = 0.0
    host: list[float] = field(default_factory=list)
    """The host's clock."""

    def record(self) -> None:
        self.at = self.gpu.now

    def query(self) -> bool:
        return self.host[0] >= self.at

    def synchronize(self) -> None:
        self.gpu.waits += 1
        self.host[0] = max(self.host[0], self.at)

    def elapsed_time(self, end: Event) -> float:
        return 1000 * (end.at - self.at)


def test_the_host_runs_two_forwards_ahead_and_measures_the_devices_time() -> None:
    gpu, host = Gpu(), [0.0]
    watch = DeviceWatch(lambda: Event(gpu, host=host))
    measured = []
    for number in range(6):
        with watch.forward(number):
            gpu.work(0.5)  # told in no time, worked off in half a second
        assert gpu.now - host[0] <= 2 * 0.5 + 1e-9  # never more than two queued
        measured += watch.finished()
    assert gpu.waits == 4
    host[0] = gpu.now
    measured += watch.finished()
    assert measured == [(number, 0.5) for number in range(6)]


def test_a_forward_that_fails_is_not_measured() -> None:
    clock = iter([0.0, 1.0, 3.0])
    watch = HostWatch(lambda: next(clock))
    with pytest.raises(RuntimeError), watch.forward("bad"):
        raise RuntimeError
    with watch.forward("good"):
        pass
    assert watch.finished() == [("good", 2.0)]
    assert watch.finished() == []
