"""The scheduler alone, with plain objects."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest

from danqing.engine.scheduler import EXPLORE_EVERY, BatchKey, Gain, Kind, Limits, Part, Scheduler

KEY = BatchKey(Kind.DENOISE, "m", 16, 16, 77)


def parts(count: int, key: BatchKey = KEY, rows: int = 2, first: int = 0) -> list[Part]:
    return [Part(key, rows, first + i, owner=f"{key.kind}{first + i}") for i in range(count)]


def test_nothing_waits() -> None:
    assert Scheduler(Limits()).next_group() == []


def test_the_oldest_leads_and_only_its_own_kind_joins() -> None:
    scheduler = Scheduler(Limits(gain=10))
    other = BatchKey(Kind.DENOISE, "m", 16, 24, 77)
    scheduler.add([*parts(2, other, first=1), *parts(2, first=0), *parts(1, first=9)])
    scheduler.note(KEY, 8, 1.0)
    scheduler.note(other, 8, 1.0)
    assert [part.order for part in scheduler.next_group()] == [0, 1, 9]
    assert [part.order for part in scheduler.next_group()] == [1, 2]
    assert len(scheduler) == 0


def test_nobody_starves() -> None:
    """A newcomer of another size waits for at most one forward of the crowd."""
    scheduler = Scheduler(Limits(rows=4, gain=10))
    scheduler.note(KEY, 4, 1.0)
    scheduler.add(parts(10))
    scheduler.next_group()
    newcomer = parts(1, BatchKey(Kind.DENOISE, "m", 64, 64, 77), first=10)
    scheduler.add(newcomer)
    scheduler.add(parts(2, first=11))
    groups = []
    while len(scheduler):
        groups.append(scheduler.next_group())
    assert newcomer in groups
    assert groups.index(newcomer) <= 4


def test_a_part_larger_than_the_cap_goes_alone() -> None:
    scheduler = Scheduler(Limits(rows=4))
    scheduler.add(parts(1, rows=6) + parts(1, first=5))
    assert [part.rows for part in scheduler.next_group()] == [6]


def test_budgets_bound_rows() -> None:
    limits = Limits(rows=32, denoise_budget=65536, decode_budget=4096)
    assert limits.most(BatchKey(Kind.DENOISE, "m", 64, 64, 77)) == 16
    assert limits.most(BatchKey(Kind.DENOISE, "m", 16, 16, 77)) == 32
    assert limits.most(BatchKey(Kind.DENOISE, "m", 512, 512, 77)) == 1
    assert limits.most(BatchKey(Kind.DECODE, "m", 64, 64)) == 1
    assert limits.most(BatchKey(Kind.DECODE, "m", 16, 16)) == 16


def test_the_batch_grows_while_it_gains() -> None:
    gain = Gain(0.97)
    assert gain.cap(32) == 2
    for rows, seconds in ((2, 2.0), (4, 3.0), (8, 5.0), (16, 9.0)):
        gain.note(rows, seconds)
    assert gain.cap(32) == 32
    assert gain.cap(24) == 24


def test_the_batch_stops_where_sharing_brings_nothing() -> None:
    gain = Gain(0.97)
    for rows, seconds in ((2, 2.0), (4, 3.0), (8, 6.0)):
        gain.note(rows, seconds)
    assert gain.cap(32) == 4


def test_a_spoilt_measurement_does_not_stick() -> None:
    gain = Gain(0.97)
    gain.note(2, 2.0)
    gain.note(4, 40.0)
    assert gain.cap(32) == 2
    tried = False
    for _ in range(EXPLORE_EVERY):
        if gain.cap(32) == 32:
            tried = True
            gain.note(4, 2.0)
        else:
            gain.note(2, 2.0)
    assert tried
    assert gain.cap(32) > 4


def test_dropped_parts_do_not_come_back() -> None:
    scheduler = Scheduler(Limits(gain=10))
    mine = parts(3)
    scheduler.add(mine)
    scheduler.drop(mine[1].owner)
    taken = [part.order for part in scheduler.next_group()] + [part.order for part in scheduler.next_group()]
    assert sorted(taken) == [0, 2]


def test_scheduler_protocol_and_catalogue_need_no_torch() -> None:
    code = (
        "import sys, danqing.engine.scheduler, danqing.engine.protocol, danqing.engine.catalog, danqing.library.index;"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_shares_get_the_device_in_turn_however_many_calls_they_have() -> None:
    scheduler = Scheduler(Limits(rows=2, gain=10))
    scheduler.note(KEY, 2, 1.0)

    def add(share: str, order: int) -> None:
        scheduler.add([Part(KEY, 2, order, owner=share, share=share)])

    for n in range(20):
        add("a", n)
    for _ in range(5):
        scheduler.next_group()
    add("b", 100)
    leaders = []
    for n in range(101, 109):
        leaders.append(scheduler.next_group()[0].share)
        if leaders[-1] == "b":
            add("b", n)
    assert leaders.count("b") == leaders.count("a") == 4


def test_accounts_of_those_who_left_are_forgotten() -> None:
    scheduler = Scheduler(Limits())
    for n in range(1000):
        scheduler.add([Part(KEY, 2, n, owner=n, share=f"visitor {n}")])
        assert len(scheduler.next_group()) == 1
    assert len(scheduler._used) <= 257


@dataclass
class Device:
    """Seconds of a forward: some that every launch costs, and some for each row."""

    launch: float
    row: float

    def run(self, scheduler: Scheduler, waiting: int = 24, forwards: int = 40) -> list[int]:
        """Rows of each forward while so many rows always wait."""
        sizes = []
        for order in range(forwards):
            scheduler.add(parts(waiting - len(scheduler), rows=1, first=order * waiting))
            group = scheduler.next_group()
            sizes.append(sum(one.rows for one in group))
            scheduler.note(group[0].key, sizes[-1], self.launch + self.row * sizes[-1])
        return sizes


def test_the_batch_is_what_pays_on_the_device_at_hand() -> None:
    large = Device(launch=0.008, row=0.001).run(Scheduler(Limits(rows=32)))
    small = Device(launch=0.0001, row=0.030).run(Scheduler(Limits(rows=32)))
    assert large[-1] >= 16  # launches cost most there: sharing them pays
    assert small[-1] <= 2  # and here a larger batch only makes everybody wait


@pytest.mark.parametrize("milliseconds", [40, 100, 250])
def test_a_forward_keeps_to_the_time_that_was_asked_for(milliseconds: int) -> None:
    device = Device(launch=0.010, row=0.009)
    seconds = milliseconds / 1000
    sizes = device.run(Scheduler(Limits(rows=32, gain=10, seconds=seconds)))
    settled = sizes[10:]
    assert max(device.launch + device.row * size for size in settled) <= seconds
    most = int((seconds - device.launch) / device.row)
    assert max(settled) >= most // 2  # and wastes no more than the doubling of what has been measured
    assert max(device.run(Scheduler(Limits(rows=32, gain=10)))) == 24


def test_a_row_alone_runs_however_long_it_takes() -> None:
    sizes = Device(launch=2.0, row=1.0).run(Scheduler(Limits(rows=32, gain=10, seconds=0.1)))
    assert set(sizes[1:]) == {1}
