"""From a picture to a control map, whatever preprocessor makes it. No torch before a network is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from danqing.control import plain
from danqing.control.catalog import ROWS, Row, Values, find
from danqing.control.plain import Pixels
from danqing.errors import DanqingError
from danqing.library.manifest import read_manifest
from danqing.plugins.loading import active

FOLDER = ("models", "annotators")


def detect(
    data: Path,
    module: str,
    image: Pixels,
    *,
    resolution: int,
    a: float,
    b: float,
    mask: Pixels | None = None,
    seed: int = 0,
) -> Pixels:
    """The control map of `image`: (h, w, 3) uint8.

    A map has the picture's proportions, `resolution` on its shorter side (`plain.map_size`), or the picture's own size where a
    preprocessor has no use for a resolution. To lay it into a drawing's size is the caller's work.

    Args:
        data: data folder; weights lie in its models/annotators.
        module: name or label of a preprocessor.
        image: (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), uint8 or uint16, RGB.
        resolution, a, b: as `catalog.settings_of` gives them.
        mask: (h, w) uint8, white where something is to be painted; for the inpaint modules, which leave that black: the caller
            gives the network -1 there.
        seed: of the preprocessors that draw lots ("shuffle", "mobile_sam").

    Raises:
        DanqingError: `unknown_preprocessor`, `preprocessor_absent`, `preprocessor_without_map`, `missing_picture` (a mask),
            `annotator_missing`, `annotator_broken`.
    """
    row = known(module)
    if row.how == "plugin":
        return _of_plugin(row.name, plain.rgb(image), resolution)
    if row.how == "network":
        found = files_of(data, row)
        # A network needs torch, which the web process must not load.
        from danqing.control import networks

        return networks.detect(found, row.name, plain.rgb(image), Values(resolution, a, b), seed)
    return _plain(row, plain.rgb(image), resolution, a, b, mask, seed)


def known(module: str) -> Row:
    """A preprocessor that makes maps.

    Raises:
        DanqingError: `unknown_preprocessor`, `preprocessor_absent`, `preprocessor_without_map`.
    """
    row = find(module)
    if row.how == "vision":
        raise DanqingError("preprocessor_without_map", name=row.name)
    if row.how == "absent":
        kin = [other.name for other in ROWS if other.how in ("plain", "network") and set(other.types) & set(row.types)]
        raise DanqingError("preprocessor_absent", name=row.name, known=", ".join(kin) or "-")
    return row


def files_of(data: Path, row: Row) -> tuple[Path, ...]:
    """The files of weights that `row` needs.

    Raises:
        DanqingError: `annotator_missing`.
    """
    found = tuple(data.joinpath(*FOLDER, name) for name in row.files)
    for path in found:
        if not path.is_file():
            raise DanqingError("annotator_missing", name=row.name, file=str(path), command=command(data, path.name))
    return found


def command(data: Path, file: str) -> str:
    """What to type so that a file of weights is there afterwards; "-" for one that the manifest does not know."""
    name = "/".join((*FOLDER, file))
    groups = [weights.groups[-1] for weights in read_manifest().weights if weights.file == name]
    return f"python -m danqing.library.fetch --data {data} --accept-licences {groups[0]}" if groups else "-"


def _of_plugin(name: str, image: Pixels, resolution: int) -> Pixels:
    """
    Raises:
        DanqingError: `plugin_failed`.
    """
    from PIL import Image

    told = {"name": name, "image": Image.fromarray(image), "resolution": resolution}
    for plugin, made in active().calls("danqing_preprocess", told):
        try:
            return np.asarray(made.convert("RGB"))
        except Exception as error:  # noqa: BLE001 - what is no image ends the plug-in
            active().fail(plugin, "danqing_preprocess", error)
    raise DanqingError("plugin_failed", name=name, reason="danqing_preprocess")


def _plain(
    row: Row,
    image: Pixels,
    resolution: int,
    a: float,
    b: float,
    mask: Pixels | None,
    seed: int,
) -> Pixels:
    if row.name in plain.UNSIZED:
        return plain.UNSIZED[row.name](image, a, b)
    if row.needs_mask:
        if mask is None:
            raise DanqingError("missing_picture", field="mask")
        return plain.masked(image, mask)
    if row.name == "shuffle":
        return plain.shuffle(plain.sized(image, resolution), seed)
    small = plain.sized(image, resolution)
    height, width = small.shape[:2]
    return np.ascontiguousarray(plain.SIZED[row.name](plain.padded(small), a, b)[:height, :width])


def pixel_perfect_resolution(image_hw: tuple[int, int], target_hw: tuple[int, int], resize_mode: str) -> int:
    """The resolution at which a map needs no resizing once it is laid into a drawing.

    Args:
        image_hw, target_hw: height and width of the picture and of the drawing, in pixels.
        resize_mode: "Just Resize", "Crop and Resize" or "Resize and Fill".
    """
    factors = [target / own for target, own in zip(target_hw, image_hw, strict=True)]
    factor = min(factors) if resize_mode == "Resize and Fill" else max(factors)
    return max(1, round(factor * min(image_hw)))
