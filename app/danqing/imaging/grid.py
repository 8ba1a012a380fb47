"""Contact sheets: pictures side by side, and with a legend along the top and the left edge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

FONTS = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc",
)
"""Fonts with Chinese letters, first found first (Debian and Ubuntu, Arch, Fedora); without them Pillow's own is used."""
SIMPLIFIED = 2
"""Which face of the Noto collection has the simplified Chinese forms."""


@dataclass(frozen=True, slots=True)
class Label:
    """One text of a legend. An inactive one is grey and struck through."""

    text: str
    active: bool = True


@dataclass(frozen=True, slots=True)
class Colours:
    """Of the legend, "#rrggbb"."""

    active: str = "#000000"
    inactive: str = "#999999"
    background: str = "#ffffff"


def rows_of(count: int, batch_size: int = 1, n_rows: int = -1, *, no_gaps: bool = False) -> int:
    """Rows of a grid of `count` pictures: `n_rows`; as many as the batch's pictures for 0; a square for -1.

    `no_gaps` takes the next smaller number that divides the count.
    """
    if n_rows > 0:
        rows = n_rows
    elif n_rows == 0:
        rows = batch_size
    elif no_gaps:
        rows = math.isqrt(count)
        while count % rows:
            rows -= 1
    else:
        rows = round(math.sqrt(count))
    return max(1, min(rows, count))


def image_grid(images: Sequence[Image.Image], rows: int, background: str = "#000000") -> Image.Image:
    """The pictures row by row, in cells of the first one's size, empty cells in the colour `background`."""
    width, height = images[0].size
    columns = math.ceil(len(images) / rows)
    grid = Image.new("RGB", (columns * width, rows * height), background)
    for index, image in enumerate(images):
        grid.paste(image, (index % columns * width, index // columns * height))
    return grid


def find_font(size: int) -> Font:
    """A font of `size` pixels that has Chinese letters where the machine has one."""
    for name in FONTS:
        if Path(name).is_file():
            try:
                return ImageFont.truetype(name, size, index=SIMPLIFIED)
            except OSError:
                continue
    return ImageFont.load_default(size)


def annotated(
    grid: Image.Image,
    cell: tuple[int, int],
    top: Sequence[Sequence[Label]],
    left: Sequence[Sequence[Label]],
    margin: int = 0,
    colours: Colours | None = None,
) -> Image.Image:
    """`grid` with `margin` pixels between its cells, a legend above each column and left of each row.

    top, left: for each column and row its labels, one below the other; a legend without any text takes no room.
    """
    paint = colours or Colours()
    width, height = cell
    columns, rows = grid.width // width, grid.height // height
    size = (width + height) // 25
    legend = _Legend(size, size // 2)
    pad_left = width * 3 // 4 if any(label.text for labels in left for label in labels) else 0
    tops = [legend.wrapped(labels, width) for labels in top]
    lefts = [legend.wrapped(labels, pad_left) for labels in left] if pad_left else []
    tallest = max((legend.height(lines) for lines in tops), default=0)
    pad_top = tallest + legend.spacing * 2 if tallest else 0
    sheet = Image.new(
        "RGB",
        (grid.width + pad_left + margin * (columns - 1), grid.height + pad_top + margin * (rows - 1)),
        paint.background,
    )
    for row in range(rows):
        for column in range(columns):
            box = (column * width, row * height, (column + 1) * width, (row + 1) * height)
            sheet.paste(grid.crop(box), (pad_left + column * (width + margin), pad_top + row * (height + margin)))
    draw = ImageDraw.Draw(sheet)
    for column, lines in enumerate(tops[:columns]):
        x = pad_left + column * (width + margin) + width / 2
        legend.write(draw, lines, (x, pad_top / 2 - legend.height(lines) / 2), paint)
    for row, lines in enumerate(lefts[:rows]):
        y = pad_top + row * (height + margin) + height / 2 - legend.height(lines) / 2
        legend.write(draw, lines, (pad_left / 2, y), paint)
    return sheet


class _Legend:
    """Sets labels in lines of one size."""

    def __init__(self, size: int, spacing: int) -> None:
        self.size = max(size, 6)
        self.spacing = spacing
        self.font = find_font(self.size)

    def wrapped(self, labels: Sequence[Label], width: int) -> list[Label]:
        """The labels in lines no wider than `width` pixels, as far as words allow; words of Chinese are single letters."""
        lines: list[Label] = []
        for label in labels:
            lines += [Label(line, label.active) for line in self._lines(label.text, width)]
        return lines

    def _lines(self, text: str, width: int) -> list[str]:
        lines = [""]
        for word in _words(text):
            longer = lines[-1] + word
            if lines[-1] and self.font.getlength(longer.rstrip()) > width:
                lines.append(word.lstrip())
            else:
                lines[-1] = longer
        return [line.rstrip() for line in lines if line.strip()]

    def font_for(self, text: str, width: float) -> Font:
        """The font, or a smaller one with which a word that cannot be broken fits."""
        length = self.font.getlength(text)
        return self.font if length <= width else find_font(max(6, int(self.size * width / length)))

    def height(self, lines: Sequence[Label]) -> int:
        return len(lines) * self.size + max(0, len(lines) - 1) * self.spacing

    def write(self, draw: ImageDraw.ImageDraw, lines: Sequence[Label], at: tuple[float, float], paint: Colours) -> None:
        """The lines centred on at[0], the first beginning at at[1]."""
        x, y = at
        for line in lines:
            middle = y + self.size / 2
            colour = paint.active if line.active else paint.inactive
            draw.text((x, middle), line.text, font=self.font_for(line.text, 2 * x), fill=colour, anchor="mm")
            if not line.active:
                half = self.font.getlength(line.text) / 2
                draw.line((x - half, middle, x + half, middle), fill=colour, width=max(1, self.size // 10))
            y += self.size + self.spacing


def _words(text: str) -> list[str]:
    """Pieces that a line may end behind: words with their space, and each letter of a script without spaces."""
    words = [""]
    for letter in text:
        wide = "⺀" <= letter <= "鿿" or "가" <= letter <= "힯" or "\uff00" <= letter <= "\uffef"
        if wide or words[-1].endswith(" ") or (words[-1] and "⺀" <= words[-1][-1] <= "鿿"):
            words.append(letter)
        else:
            words[-1] += letter
    return [word for word in words if word]
