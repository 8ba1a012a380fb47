"""Does a picture follow its map? Edges against edges, zones of overlapping objects, and a figure fitted to the pixels.

Nothing here looks at the map while it reads a picture; `tests/mini` holds the judges to true and to shuffled pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from danqing.control import plain
from danqing.mini.control_data import key_points
from danqing.mini.drawing import thing_mask
from danqing.mini.figure_fit import fitted_figure
from danqing.mini.judge import DIFFERENT, Bools, Floats, background_of, colour_name, judge, lab
from danqing.mini.scenes import Scene

Pixels = NDArray[np.uint8]

NEAR_EDGE, NEAR_JOINT = 2.0, 8.0
"""Pixels within which an edge or a joint counts as met."""

MARGIN = 2
"""Pixels left out along the borders of zones, where colours mix."""


def edges(picture: Pixels) -> Bools:
    """Canny's edges, with the thresholds of the preprocessor."""
    return np.asarray(plain.canny(picture, 100, 200)[..., 0] > 0)


def edge_overlap(wanted: Bools, found: Bools, reach: float = NEAR_EDGE) -> float:
    """Intersection over union of two sets of edge pixels; one with a pixel of the other set within `reach` counts as shared.

    hits / (hits + missed + surplus), hits being the mean of both sides; 1 for two empty sets.
    """
    if not wanted.any() or not found.any():
        return float(not wanted.any() and not found.any())
    met, right = (int((a & _near(b, reach)).sum()) for a, b in ((wanted, found), (found, wanted)))
    hits = (met + right) / 2
    return float(hits / (hits + int(wanted.sum()) - met + int(found.sum()) - right))


def _near(mask: Bools, reach: float) -> Bools:
    return np.asarray(cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= reach)


@dataclass(frozen=True)
class Followed:
    """`share`: edge overlap, 0 or 1 for the depth order, or share of joints that are met; `colour`: of the colours asked for."""

    share: float
    colour: float


def edges_followed(picture: Pixels, scene: Scene, hint: Pixels) -> Followed:
    """Of an edge map: overlap of the edges; the colours are judged as without control."""
    return Followed(edge_overlap(hint[..., 0] > 127, edges(picture)), float(judge(picture, scene).colour))


def depth_followed(picture: Pixels, scene: Scene, _hint: Pixels) -> Followed:
    """Of a depth map of two overlapping objects: whether the near one hides the far one, and both stand out from what is behind.

    Zones: what only the near or only the far object covers, what both cover, and the background.
    """
    far, near = sorted(scene.things, key=lambda thing: thing.near)
    masks = {thing: thing_mask(thing) > 0.5 for thing in (far, near)}
    zones = (masks[near] & ~masks[far], masks[far] & ~masks[near], masks[near] & masks[far])
    of_near, of_far, of_both = (_colour_in(picture, zone) for zone in zones)
    colours = [float(colour_name(c) == t.colour) for c, t in ((of_near, near), (of_far, far))]
    behind = background_of(picture)
    apart = min(_distance(of_near, of_far), _distance(of_near, behind), _distance(of_far, behind)) > DIFFERENT
    hidden = _distance(of_both, of_near) < _distance(of_both, of_far)
    return Followed(float(apart and hidden), float(np.mean(colours)))


def _colour_in(picture: Pixels, zone: Bools) -> Floats:
    size = 2 * MARGIN + 1
    inner = cv2.erode(zone.astype(np.uint8), np.ones((size, size), np.uint8)) > 0
    return np.asarray(np.median(picture[inner if inner.sum() >= 12 else zone], 0), np.float64)


def _distance(a: Floats, b: Floats) -> float:
    return float(np.sqrt(np.square(lab(a) - lab(b)).sum()))


def pose_followed(picture: Pixels, scene: Scene, _hint: Pixels) -> Followed:
    """Of a pose: the share of the 18 key points that the figure in the picture has within `NEAR_JOINT`; the shirt's colour."""
    (thing,) = scene.things
    figure = fitted_figure(picture)
    if figure is None:
        return Followed(0.0, 0.0)
    gaps = np.linalg.norm(figure.joints() - np.array(key_points(thing)), axis=1)
    return Followed(float((gaps <= NEAR_JOINT).mean()), float(colour_name(figure.shirt(picture)) == thing.colour))


FOLLOWED = {"canny": edges_followed, "depth": depth_followed, "pose": pose_followed}
"""Kind of control -> its judge."""
