"""Faces found, cut out upright, and put back: what a face restorer needs around its network. No torch.

Detection is OpenCV's with YuNet (Wu et al. 2023, https://doi.org/10.1007/s11633-023-1423-y); the five points that a face is laid
on are FFHQ's, as GFPGAN learnt them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from danqing.errors import DanqingError

Pixels = np.ndarray[Any, Any]

SIDE = 512
"""Pixels a side of a cut-out face."""

TEMPLATE = np.array(
    [
        (192.98138, 239.94708),
        (318.90277, 240.1936),
        (256.63416, 314.01935),
        (201.26117, 371.41043),
        (313.08905, 371.15118),
    ],
    np.float32,
)
"""Where eyes, nose and the corners of the mouth lie in a cut-out face, left before right."""

SURROUND = (132, 133, 135)
"""The grey beyond the picture's edge, that the restorers were trained with."""

LIKELIHOOD = 0.8
"""Least score of a find that counts as a face."""

RESTORERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "GFPGAN": ("GFPGAN", ("GFPGANv1.4.pth", "GFPGANv1.3.pth", "GFPGANv1.2.pth")),
    "CodeFormer": ("Codeformer", ("codeformer-v0.1.0.pth", "codeformer.pth")),
}
"""Folder under DATA/models, and the files that would do, the best first."""
DETECTOR = ("facelib", ("face_detection_yunet_2023mar.onnx",))

Face = tuple[tuple[float, float], ...]
"""Five points (x, y) in pixels, in the template's order."""


@dataclass(frozen=True, slots=True)
class Kit:
    """The files of a restorer."""

    restorer: Path
    detector: Path


def weights(data: Path, name: str) -> Kit:
    """The files of the restorer `name`.

    Raises:
        DanqingError: `files_missing` names file and folder; `not_available`.
    """
    folder, files = RESTORERS[name]
    restorer = _first(data, name, folder, files)
    detector = _first(data, name, *DETECTOR)
    if name == "CodeFormer":
        # Its licence forbids selling, so spandrel keeps its network in a package of its own, which is not part of Danqing.
        raise DanqingError("not_available", feature="CodeFormer")
    return Kit(restorer, detector)


def _first(data: Path, name: str, folder: str, files: tuple[str, ...]) -> Path:
    place = data / "models" / folder
    for file in files:
        if (place / file).is_file():
            return place / file
    raise DanqingError("files_missing", feature=name, files=files[0], folder=str(place))


def detected(detector: Path, pixels: Pixels) -> list[Face]:
    """The faces of a picture (h, w, 3), RGB, from left to right.

    Raises:
        DanqingError: `model_broken`, when the detector's file cannot be read.
    """
    height, width = pixels.shape[:2]
    try:
        yunet = cv2.FaceDetectorYN.create(str(detector), "", (width, height), LIKELIHOOD)
    except cv2.error as error:
        raise DanqingError("model_broken", name=detector.name, reason=str(error).splitlines()[0][:200]) from None
    _, found = yunet.detect(np.ascontiguousarray(pixels[:, :, ::-1]))
    rows = [] if found is None else [row[4:14].reshape(5, 2) for row in found]
    return sorted(tuple((float(x), float(y)) for x, y in points) for points in rows)


def transform(face: Face) -> Pixels:
    """The similarity (2, 3) that lays a face on the template."""
    matrix, _ = cv2.estimateAffinePartial2D(np.array(face, np.float32), TEMPLATE, method=cv2.LMEDS)
    return np.asarray(matrix)


def aligned(pixels: Pixels, face: Face) -> Pixels:
    """The face, upright, (512, 512, 3)."""
    return np.asarray(cv2.warpAffine(pixels, transform(face), (SIDE, SIDE), borderValue=SURROUND))


def pasted(pixels: Pixels, mended: Pixels, face: Face) -> Pixels:
    """`pixels` with a cut-out face put back at its place, its edge fading out."""
    height, width = pixels.shape[:2]
    back = cv2.invertAffineTransform(transform(face))
    laid = cv2.warpAffine(mended, back, (width, height), flags=cv2.INTER_LINEAR)
    mask = cv2.warpAffine(np.ones(mended.shape[:2], np.float32), back, (width, height))
    edge = max(1, int(float(mask.sum()) ** 0.5) // 20)
    mask = cv2.erode(mask, np.ones((2 * edge + 3, 2 * edge + 3), np.uint8), borderValue=0)
    mask = cv2.GaussianBlur(mask, (2 * edge + 1, 2 * edge + 1), 0)[:, :, None]
    return np.asarray(np.rint(laid * mask + pixels * (1 - mask))).astype(np.uint8)
