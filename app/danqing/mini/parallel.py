"""Training in a few one-thread processes that meet now and then and average their weights.

Two processes of one thread beat one process of two threads by far on nets this small, and processes
that meet by the clock, not at every step, never wait for one whose core is busy with other work. With
a GPU there is one process and everything lies on it.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn


def device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def launch(work: Callable[..., None], processes: int, *args: Any) -> None:
    """Run `work(*args)` in `processes` one-thread processes joined in a group."""
    port = 20000 + os.getpid() % 20000
    count = 1 if torch.cuda.is_available() else processes
    start: Callable[..., Any] = spawn
    start(_member, args=(count, port, work, args), nprocs=count)


def _member(rank: int, world: int, port: int, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    torch.manual_seed(1000 + rank)
    work(*args)
    dist.barrier()
    dist.destroy_process_group()


def rank() -> int:
    """This process's number, 0 outside a group."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def wait() -> None:
    """Let all processes meet."""
    if dist.is_initialized():
        dist.barrier()


class Flat:
    """Parameters and gradients of some nets as two flat vectors, with AdamW and a running mean."""

    def __init__(self, params: Iterable[nn.Parameter], decay: float = 0.01) -> None:
        self.params = [p for p in params if p.requires_grad]
        count = sum(p.numel() for p in self.params)
        where = self.params[0].device
        weights, self.grad = torch.empty(count, device=where), torch.zeros(count, device=where)
        start = 0
        for param in self.params:
            stop = start + param.numel()
            weights[start:stop].copy_(param.data.reshape(-1))
            param.data = weights[start:stop].view(param.shape)
            param.grad = self.grad[start:stop].view(param.shape)
            start = stop
        self.flat = nn.Parameter(weights)
        self.flat.grad = self.grad
        self.optimizer = torch.optim.AdamW([self.flat], lr=0.0, betas=(0.9, 0.99), weight_decay=decay, fused=True)
        self.mean = weights.clone()
        self.steps = 0
        if world() > 1:
            dist.broadcast(self.flat.data, 0)

    def step(self, rate: float, mean_decay: float = 0.99) -> None:
        """Clip gradients to norm 1, update, forget them."""
        self.grad.mul_(min(1.0, 1.0 / (float(self.grad.norm()) + 1e-6)))
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        self.grad.zero_()
        self.steps += 1
        self.mean.lerp_(self.flat.data, 1 - min(mean_decay, self.steps / (self.steps + 30)))

    def blend(self) -> None:
        """Average the weights and their running means over the processes."""
        if world() > 1:
            for vector in (self.flat.data, self.mean):
                dist.all_reduce(vector)
                vector /= world()

    def use_mean(self) -> None:
        """Put the running mean into the nets, for good."""
        self.flat.data.copy_(self.mean)

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {
            "flat": self.flat.data,
            "mean": self.mean,
            "steps": self.steps,
            "optimizer": self.optimizer.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state()`."""
        self.flat.data.copy_(state["flat"])
        self.mean.copy_(state["mean"])
        self.steps = state["steps"]
        self.optimizer.load_state_dict(state["optimizer"])


class Clock:
    """A budget of minutes cut into rounds; `before` is what earlier runs spent of it.

    Within a round every process steps by its own clock; what all must do together (average, save,
    fill a cache) happens between rounds, which come in the same number and order to all.
    """

    def __init__(self, minutes: float, before: float = 0.0, seconds: float = 15.0) -> None:
        wait()
        self.minutes, self.before, self.start = minutes, before, time.monotonic()
        self.count = max(1, math.ceil((minutes - before) * 60 / seconds))
        self.round, self.length = 0, (minutes - before) / self.count

    def spent(self) -> float:
        """Minutes spent so far, by this process's clock."""
        return self.before + (time.monotonic() - self.start) / 60

    def rounds(self) -> Iterator[float]:
        """The share of the budget gone at the start of each round, the same in all processes."""
        for number in range(self.count):
            self.round = number
            yield (self.before + self.round * self.length) / self.minutes

    def steps(self) -> Iterator[float]:
        """The share of the budget gone at each step, at least one, until the round is over."""
        end = self.before + (self.round + 1) * self.length
        yield min(1.0, self.spent() / self.minutes)
        while (now := self.spent()) < end:
            yield now / self.minutes


def shared(clock: Clock, flat: Flat) -> Iterator[float]:
    """The steps of a whole budget, the weights averaged after every round."""
    for _ in clock.rounds():
        yield from clock.steps()
        flat.blend()


def trapezoid(fraction: float, warm: float = 0.02, tail: float = 0.15) -> float:
    """Learning rate factor: a short rise, a plateau, a straight fall over the last `tail`."""
    return max(0.01, min(1.0, fraction / warm, (1 - fraction) / tail))


def cosine(fraction: float, warm: float = 0.03) -> float:
    """Learning rate factor: a short rise, then half a cosine down to 2 %."""
    if fraction < warm:
        return max(0.02, fraction / warm)
    return 0.02 + 0.49 * (1 + math.cos(math.pi * min(1.0, (fraction - warm) / (1 - warm))))


def save_whole(value: Any, path: str | os.PathLike[str]) -> None:
    """Write a file under another name first, so that it is never seen half written."""
    torch.save(value, f"{path}.tmp")
    os.replace(f"{path}.tmp", path)


def say(*words: Any) -> None:
    """A progress line, from process 0 only."""
    if rank() == 0:
        print(time.strftime("%H:%M:%S"), *words, flush=True)


def scalar(values: list[Tensor]) -> float:
    """Mean of some detached scalars."""
    return float(torch.stack(values).mean()) if values else float("nan")
