"""X/Y/Z plot: one picture for every combination of up to three axes, on a sheet with a legend (spec 18)."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from PIL import Image

from danqing.engine.calls import Call, Finished, Plan
from danqing.engine.plans import Drawn
from danqing.engine.scripts import axes
from danqing.engine.scripts.axes import Axis
from danqing.engine.scripts.darkroom import drawn_all, image_of, sheet
from danqing.engine.scripts.styling import styled
from danqing.errors import DanqingError
from danqing.imaging import grid
from danqing.request import GenerateRequest, Script

if TYPE_CHECKING:
    from danqing.engine.calls import Track
    from danqing.engine.studio import Studio

LETTERS = ("x", "y", "z")
SHEET_PIXELS = 200 * 10**6
"""A larger sheet is refused, as the WebUI does."""


@dataclass(frozen=True, slots=True)
class Plot:
    """Axes and their values, x, y, z."""

    axes: tuple[Axis, ...]
    values: tuple[list[Any], ...]

    @property
    def cells(self) -> list[tuple[int, ...]]:
        """Indices (x, y, z) of every cell, the dearest axis outermost, so that checkpoints change seldom."""
        counts = [range(len(values)) for values in self.values]
        order = sorted(range(3), key=lambda i: (-self.axes[i].cost, -i))
        found = []
        for combination in itertools.product(*(counts[i] for i in order)):
            cell = [0, 0, 0]
            for place, index in zip(order, combination, strict=True):
                cell[place] = index
            found.append(tuple(cell))
        return found


def plot_of(request: GenerateRequest, args: dict[str, Any]) -> Plot:
    """
    Raises:
        DanqingError: `invalid_field`, `too_many_images`.
    """
    chosen = tuple(axes.find(args[f"{letter}_type"]) for letter in LETTERS)
    values = tuple(
        axes.values_of(axis, args[f"{letter}_values"], args[f"{letter}_dropdown"], args["csv_mode"])
        for axis, letter in zip(chosen, LETTERS, strict=True)
    )
    if not args["no_fixed_seeds"]:
        values = tuple(
            [_seed(request, axis, value, i) for i, value in enumerate(row)]
            for axis, row in zip(chosen, values, strict=True)
        )
    return Plot(chosen, values)


def _seed(request: GenerateRequest, axis: Axis, value: Any, place: int) -> Any:
    """A random seed among an axis' values becomes one that the job keeps."""
    if axis.label in ("Seed", "Var. seed") and value in (-1, None, ""):
        return (request.seed * 31 + place * 7919 + 1) % 2**32
    return value


def request_of(request: GenerateRequest, args: dict[str, Any], plot: Plot, cell: Sequence[int]) -> GenerateRequest:
    """The request of a cell.

    Raises:
        DanqingError: a value that does not fit.
    """
    made = request
    for axis, values, index in zip(plot.axes, plot.values, cell, strict=True):
        made = axis.apply(made, values[index], values)
    made, step = styled(made.model_copy(update={"script": None}), made.script), 0
    counts = [len(values) for values in plot.values]
    if args["vary_seeds_x"]:
        step += cell[0]
    if args["vary_seeds_y"]:
        step += cell[1] * (counts[0] if args["vary_seeds_x"] else 1)
    if args["vary_seeds_z"]:
        step += cell[2] * (counts[0] if args["vary_seeds_x"] else 1) * (counts[1] if args["vary_seeds_y"] else 1)
    try:
        return GenerateRequest.model_validate({**made.model_dump(), "seed": made.seed + step})
    except ValueError as error:
        raise DanqingError("invalid_field", field="axis", reason=str(error).splitlines()[-1][:120]) from None


def requests(request: GenerateRequest, args: dict[str, Any]) -> dict[tuple[int, ...], GenerateRequest]:
    """The request of every cell, in the order of drawing."""
    plot = plot_of(request, args)
    return {cell: request_of(request, args, plot, cell) for cell in plot.cells}


def pairs_of(plot: Plot, args: dict[str, Any]) -> dict[str, str | int | float]:
    """What the sheet's infotext says."""
    found: dict[str, str | int | float] = {"Script": "X/Y/Z plot"}
    for letter, axis in zip(LETTERS, plot.axes, strict=True):
        if axis.kind != "none":
            found[f"{letter.upper()} Type"] = axis.label
            found[f"{letter.upper()} Values"] = args[f"{letter}_values"] or ",".join(args[f"{letter}_dropdown"])
    return found


def run(request: GenerateRequest, script: Script, studio: Studio, track: Track) -> Plan:
    """The sheet (or one for every z and one of them all), and the single pictures where they are wanted."""
    args = script.args
    plot = plot_of(request, args)
    asked = {cell: request_of(request, args, plot, cell) for cell in plot.cells}
    if not asked:
        return
    _check_size(asked.values())
    found = yield from drawn_all(list(asked.values()), studio)
    drawn = {cell: one[0] for cell, one in zip(asked, found, strict=True) if one}
    if not drawn:
        return
    yield from _handed_out(plot, args, asked, drawn)


def _check_size(asked: Any) -> None:
    total = sum(one.width * one.height for one in asked)
    if total > SHEET_PIXELS:
        raise DanqingError("too_many_pixels", width=total // 1000, height=1000, maximum=SHEET_PIXELS)


def _handed_out(
    plot: Plot, args: dict[str, Any], asked: dict[tuple[int, ...], GenerateRequest], drawn: dict[tuple[int, ...], Drawn]
) -> Generator[Call, Any, None]:
    first = drawn[min(drawn, key=lambda cell: cell[::-1])]
    facts = replace(first.facts, extra={**first.facts.extra, **pairs_of(plot, args)})
    request = next(iter(asked.values()))
    sheets = [_sheet(plot, args, drawn, z) for z in range(len(plot.values[2]))]
    place = 0
    if len(sheets) > 1:
        titles = [[grid.Label(axes.shown(plot.axes[2], value))] for value in plot.values[2]]
        whole = grid.image_grid(sheets, 1)
        if args["draw_legend"]:
            whole = grid.annotated(whole, sheets[0].size, titles, [], args["margin_size"])
        yield sheet(whole, facts, place, request)
        place += 1
    if len(sheets) == 1 or args["include_sub_grids"]:
        for one in sheets:
            yield sheet(one, facts, place, request)
            place += 1
    if args["include_lone_images"]:
        for cell in sorted(drawn, key=lambda cell: cell[::-1]):
            yield Finished(drawn[cell].pixels, drawn[cell].facts, drawn[cell].changed or asked[cell], place)
            place += 1


def _sheet(plot: Plot, args: dict[str, Any], drawn: dict[tuple[int, ...], Drawn], z: int) -> Image.Image:
    xs, ys = plot.values[0], plot.values[1]
    size = next(iter(drawn.values())).pixels.shape
    images = []
    for y, x in itertools.product(range(len(ys)), range(len(xs))):
        one = drawn.get((x, y, z))
        image = Image.new("RGB", (size[1], size[0])) if one is None else image_of(one)
        images.append(image if image.size == (size[1], size[0]) else image.resize((size[1], size[0])))
    whole = grid.image_grid(images, len(ys))
    if not args["draw_legend"]:
        return whole
    top = [[grid.Label(axes.shown(plot.axes[0], value))] for value in xs]
    left = [[grid.Label(axes.shown(plot.axes[1], value))] for value in ys]
    return grid.annotated(whole, images[0].size, top, left, args["margin_size"])
