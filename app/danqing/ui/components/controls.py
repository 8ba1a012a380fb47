"""Boxes by name: each is labelled by its word and known to the board under the same name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import gradio as gr

from danqing.ui.words import label

if TYPE_CHECKING:
    from danqing.ui.board import Board

Choices = Sequence[Any]


def elem(name: str) -> str:
    """The id of a box in the document."""
    return "dq-" + name.replace("_", "-")


def slider(
    board: Board, name: str, low: float, high: float, value: float, step: float, word: str = "", **more: Any
) -> Any:
    """A number with bounds."""
    more = {"elem_id": elem(name), "min_width": 120, **more}
    return board.add(name, gr.Slider(low, high, value, step=step, label=label(word or name), **more))


def check(board: Board, name: str, value: bool = False, word: str = "", **more: Any) -> Any:
    """A switch."""
    return board.add(name, gr.Checkbox(value, label=label(word or name), elem_id=elem(name), min_width=120, **more))


def menu(board: Board, name: str, choices: Choices, value: Any, word: str = "", **more: Any) -> Any:
    """A list to choose from; `choices` are values, or pairs of what is shown and the value."""
    more = {"elem_id": elem(name), "min_width": 130, **more}
    return board.add(name, gr.Dropdown(list(choices), value=value, label=label(word or name), **more))


def radio(board: Board, name: str, words: Sequence[tuple[str, Any]], value: Any, word: str = "", **more: Any) -> Any:
    """A choice of few, `words` as pairs of a word of the table and the value."""
    choices = [(label(key), one) for key, one in words]
    more = {"elem_id": elem(name), "min_width": 120, **more}
    return board.add(name, gr.Radio(choices, value=value, label=label(word or name), **more))


def text(board: Board, name: str, value: str = "", word: str = "", **more: Any) -> Any:
    """A line or more to write in."""
    more = {"elem_id": elem(name), "max_lines": 8, "min_width": 120, **more}
    return board.add(name, gr.Textbox(value, label=label(word or name), **more))


def hidden(board: Board, name: str, word: str = "") -> Any:
    """A box that the page's scripts fill; people do not see it."""
    return text(board, name, word=word, elem_classes="dq-hidden", container=False)


@contextmanager
def fold(board: Board, name: str) -> Iterator[None]:
    """A part of the form that its switch `name` opens; the style sheet hides what is off."""
    with gr.Column(elem_classes="dq-fold", elem_id=f"{elem(name)}-fold"):
        check(board, name, elem_classes="dq-fold-switch")
        with gr.Column(elem_classes="dq-fold-body"):
            yield
