"""Step schedules in a prompt: `[from:to:when]`, `[to:when]`, `[from::when]` and `[a|b]`, nested as one likes.

A bracket that is no such thing stays as it is, for the weights (`emphasis`). A prompt that cannot be read at all, because a
`|` stands outside square brackets or a backslash at its end, is literal for all steps.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field

_TOKEN = re.compile(r"(?:[^\\()\[\]:|]|\\.)+|[()\[\]:|]", re.DOTALL)
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*")
_BRACKETS = {")": "(", "]": "["}
_SPECIAL = frozenset("[]")


@dataclass(frozen=True, slots=True)
class Entry:
    """`text` is drawn with up to and including the step `end`, counted from 1."""

    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """How the numbers of a prompt become steps of one pass.

    Args:
        steps: of this pass (calls of the denoiser, where the sampler makes two a step).
        base_steps: of the first pass, when this is the hires pass; None when it is not.
        old: fractions are those below 1, whole steps the others, and a hires pass uses the first pass's schedule.
    """

    steps: int
    base_steps: int | None = None
    old: bool = False

    @property
    def last(self) -> int:
        """The step that ends the schedule."""
        return self.base_steps if self.old and self.base_steps is not None else self.steps

    def step(self, number: str) -> int:
        """The step after which the change happens; below 1 it has happened from the start."""
        value, last = float(number), self.last
        if self.old:
            value = value * last if value < 1 else value
        elif "." in number:
            value = (value - (0.0 if self.base_steps is None else 1.0)) * last
        else:
            value -= self.base_steps or 0
        return last if value >= last else int(max(value, 0.0))


@dataclass(slots=True)
class _Switch:
    before: _Parts
    after: _Parts
    when: str


@dataclass(slots=True)
class _Alternate:
    options: list[_Parts]


@dataclass(slots=True)
class _Group:
    """Brackets that belong to the weights; kept in one piece, so that deep nests are not copied level by level."""

    bracket: str
    parts: _Parts
    closer: str


_Parts = list["str | _Switch | _Alternate | _Group"]


@dataclass(slots=True)
class _Frame:
    """An open bracket, what stands in it, and where its separators are: `parts` at them holds ":" or "|"."""

    bracket: str
    parts: _Parts = field(default_factory=list)
    separators: list[int] = field(default_factory=list)


class _UnreadableError(Exception):
    """The whole prompt is literal."""


def scheduled(prompt: str, timeline: Timeline) -> list[Entry]:
    """The texts of a prompt over the steps of a pass, in order; the last one ends with the pass. Never raises."""
    if not _SPECIAL & set(prompt):
        return [Entry(timeline.last, prompt)]
    try:
        parts = _read(prompt)
    except _UnreadableError:
        return [Entry(timeline.last, prompt)]
    ends = {timeline.last}
    _collect(parts, timeline, ends)
    return [Entry(end, _text(parts, timeline, end)) for end in sorted(ends)]


def _read(prompt: str) -> _Parts:
    """One pass over the prompt with a stack of open brackets; linear in its length.

    A closed bracket that is neither schedule nor weight makes all brackets around it literal, for they hold something that
    none of them may hold. What was read inside stays read.
    """
    stack = [_Frame("")]
    position = 0
    while position < len(prompt):
        match = _TOKEN.match(prompt, position)
        if match is None:
            raise _UnreadableError
        position, token = match.end(), match[0]
        if token in ("(", "["):
            stack.append(_Frame(token))
        elif token in (")", "]"):
            _close(stack, token)
        else:
            if token in (":", "|"):
                stack[-1].separators.append(len(stack[-1].parts))
            stack[-1].parts.append(token)
    _flatten(stack)
    if any(stack[0].parts[at] == "|" for at in stack[0].separators):
        raise _UnreadableError
    return stack[0].parts


def _close(stack: list[_Frame], closer: str) -> None:
    frame = stack[-1]
    built = _built(frame) if frame.bracket == _BRACKETS[closer] else None
    if built is None:
        _flatten(stack)
        stack[0].parts.append(closer)
        return
    stack.pop()
    stack[-1].parts.append(built)


def _flatten(stack: list[_Frame]) -> None:
    """All open brackets become literal text of the outermost level."""
    root = stack[0]
    for frame in stack[1:]:
        root.parts.append(frame.bracket)
        root.separators.extend(len(root.parts) + at for at in frame.separators)
        root.parts.extend(frame.parts)
    del stack[1:]


def _built(frame: _Frame) -> _Switch | _Alternate | _Group | None:
    """What a closed bracket is, None when it is nothing that the language knows."""
    parts, at = frame.parts, frame.separators
    marks = [parts[i] for i in at]
    if frame.bracket == "(":
        return _Group("(", parts, ")") if not marks or marks == [":"] else None
    if not marks:
        return _Group("[", parts, "]")
    if all(mark == "|" for mark in marks):
        edges = [-1, *at, len(parts)]
        return _Alternate([parts[a + 1 : b] for a, b in itertools.pairwise(edges)])
    number = parts[-1]
    if marks not in ([":"], [":", ":"]) or at[-1] != len(parts) - 2 or not isinstance(number, str):
        return None
    match = _NUMBER.fullmatch(number)
    if match is None:
        return None
    before = parts[: at[0]] if len(at) == 2 else []
    after = parts[at[0] + 1 : at[1]] if len(at) == 2 else parts[: at[0]]
    return _Switch(before, after, match[1])


def _collect(parts: _Parts, timeline: Timeline, ends: set[int]) -> None:
    """Add the steps after which something changes. A list of lists to visit, for a prompt may nest deeper than Python calls."""
    waiting = [parts]
    while waiting:
        for part in waiting.pop():
            if isinstance(part, _Switch):
                if (when := timeline.step(part.when)) >= 1:
                    ends.add(when)
                waiting += [part.before, part.after]
            elif isinstance(part, _Alternate):
                ends.update(range(1, timeline.last + 1))
                waiting += part.options
            elif isinstance(part, _Group):
                waiting.append(part.parts)


def _text(parts: _Parts, timeline: Timeline, step: int) -> str:
    """The prompt as it reads at `step` (from 1)."""
    found: list[str] = []
    waiting: list[_Parts] = [parts[::-1]]
    while waiting:
        if not waiting[-1]:
            waiting.pop()
            continue
        part = waiting[-1].pop()
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, _Group):
            waiting.append([part.closer, *part.parts[::-1], part.bracket])
        elif isinstance(part, _Switch):
            waiting.append((part.before if step <= timeline.step(part.when) else part.after)[::-1])
        else:
            waiting.append(part.options[(step - 1) % len(part.options)][::-1])
    return "".join(found)
