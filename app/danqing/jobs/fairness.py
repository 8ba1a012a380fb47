"""Whose job is next: every owner gets the same share of the work, however much each of them asks for.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996), which is deficit round robin without a quantum: an owner's account
grows by the work of each job that is begun, and the owner with the smallest account is next. Somebody who comes anew starts where
the others are, so that nobody saves up turns by waiting. Pure arithmetic; knows no job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping


class Shares:
    """Accounts of work by owner.

    Args:
        weights: an owner of weight 2 gets twice the share of one of weight 1; 1 for those who are not named.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = dict(weights or {})
        self.weight_of: Callable[[str], float | None] = lambda owner: None
        """What somebody else says of an owner; None leaves it to the weights."""
        self._served: dict[str, float] = {}
        self._clock = 0.0
        """The account of whoever began last, before that."""

    def served(self, owner: str) -> float:
        """Work by weight that counts as begun for an owner."""
        return max(self._served.get(owner, 0.0), self._clock)

    def cost(self, owner: str, work: float) -> float:
        """By how much work grows the account."""
        told = self.weight_of(owner)
        return work / (self._weights.get(owner, 1.0) if told is None else told)

    def begin(self, owner: str, work: float) -> None:
        """Work is begun for an owner."""
        account = self.served(owner)
        self._clock = account
        self._served[owner] = account + self.cost(owner, work)
        self._served = {name: served for name, served in self._served.items() if served > self._clock}

    def give_back(self, owner: str, work: float) -> None:
        """Work that was begun is not done after all."""
        if owner in self._served:
            self._served[owner] -= self.cost(owner, work)


def weights(text: str) -> dict[str, float]:
    """Weights from a setting: "li=2, bot=0.5". What does not read as one is left out; weights lie between 0.01 and 100."""
    found: dict[str, float] = {}
    for piece in text.split(","):
        name, _, value = piece.partition("=")
        try:
            found[name.strip()] = min(100.0, max(0.01, float(value)))
        except ValueError:
            continue
    return found
