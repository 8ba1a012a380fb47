"""Waits after failed logins, on a clock of our own."""

from __future__ import annotations

import pytest

from danqing.api.backoff import LIMIT, Backoff, network
from danqing.errors import DanqingError


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_waits_double_up_to_the_limit() -> None:
    clock = Clock()
    backoff = Backoff(free=3, most=10, clock=clock)
    waits = []
    for _ in range(9):
        backoff.check("1.2.3.4")
        backoff.failed("1.2.3.4")
        try:
            backoff.check("1.2.3.4")
        except DanqingError as error:
            waits.append(error.params["seconds"])
            clock.now += 20
        else:
            waits.append(0)
    assert waits == [0, 0, 0, 2, 3, 5, 9, 11, 11]


def test_success_forgets_and_others_are_free() -> None:
    backoff = Backoff(free=0, most=10, clock=Clock())
    backoff.failed("1.2.3.4")
    with pytest.raises(DanqingError):
        backoff.check("1.2.3.4")
    backoff.check("1.2.3.5")
    backoff.succeeded("1.2.3.4")
    backoff.check("1.2.3.4")


def test_memory_is_bounded() -> None:
    backoff = Backoff(free=0, most=10, clock=Clock())
    for number in range(LIMIT + 50):
        backoff.failed(f"10.{number // 65536}.{number // 256 % 256}.{number % 256}")
    assert len(backoff._rows) == LIMIT


@pytest.mark.parametrize(
    ("address", "one"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("nonsense", "nonsense"),
    ],
)
def test_what_counts_as_one_visitor(address: str, one: str) -> None:
    assert network(address) == one
