"""Detect, mask, redraw: each face is an inpainting of its own, "only masked", so that it is drawn as large as a whole picture.

Faces are found by YuNet where its file is on disk (models/facelib), else by scikit-image's cascade of local binary patterns
(Liao et al. 2007, https://doi.org/10.1007/978-3-540-74549-5_87), which comes with it and needs no download.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from danqing.plugins import Drawing, Hold, Result, hookimpl
from danqing.request import GenerateRequest, Inpaint
from danqing.shipped.detailer.plugin import SCRIPT

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""

LOOKED_AT = 512
"""The cascade looks at pictures of this longest side: its time grows with the area."""
SMALLEST = 24
"""Side in pixels of the faces that the cascade was trained with."""
GROWN = 0.15
"""Share of its side by which a mask reaches beyond a find, which ends at brows and chin."""


@hookimpl
def danqing_redraw(request: GenerateRequest, image: Image.Image, data: Path, hold: Hold) -> Drawing | None:
    args = SCRIPT.arguments(request)
    return _redrawn(request, image, data, hold, args) if args["on"] else None


def _redrawn(request: GenerateRequest, image: Image.Image, data: Path, hold: Hold, args: Mapping[str, Any]) -> Drawing:
    found = detected(image, data)[: int(args["most"])]
    for box in found:
        (image,) = yield [wanted(request, hold(image), hold(mask_of(box, image.size)), args)]
    told = {"After detailer": f"faces {len(found)}", "After detailer denoising strength": args["strength"]}
    return [Result(image, pairs=told)] if found else [Result(image, pairs={"After detailer": "faces 0"})]


def wanted(request: GenerateRequest, image: str, mask: str, args: Mapping[str, Any]) -> GenerateRequest:
    """The inpainting of one face."""
    inpaint = Inpaint(
        mask=mask,
        blur_x=int(args["blur"]),
        blur_y=int(args["blur"]),
        only_masked=True,
        padding=int(args["padding"]),
    )
    return request.model_copy(
        update={
            "kind": "img2img",
            "init_images": (image,),
            "inpaint": inpaint,
            "prompt": args["prompt"] or request.prompt,
            "negative_prompt": args["negative_prompt"] or request.negative_prompt,
            "denoising_strength": float(args["strength"]),
            "hires": None,
            "control": (),
            "resize_mode": 0,
            "n_iter": 1,
            "batch_size": 1,
            "restore_faces": False,
        }
    )


def mask_of(box: Box, size: tuple[int, int]) -> Image.Image:
    """White where the face is, an ellipse that reaches a little beyond the find."""
    left, top, right, bottom = box
    across, down = GROWN * (right - left), GROWN * (bottom - top)
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).ellipse((left - across, top - down, right + across, bottom + down), fill=255)
    return mask


def detected(image: Image.Image, data: Path) -> list[Box]:
    """The faces, the largest first."""
    from danqing.upscale import faces

    pixels = np.asarray(image.convert("RGB"))
    folder, files = faces.DETECTOR
    path = data / "models" / folder / files[0]
    boxes = _by_yunet(path, pixels) if path.is_file() else _by_cascade(pixels)
    return sorted(boxes, key=lambda box: (box[0] - box[2]) * (box[3] - box[1]))


def _by_yunet(path: Path, pixels: Any) -> list[Box]:
    """The square that a restorer would cut out, without its margin of a quarter."""
    import cv2

    from danqing.upscale import faces

    boxes = []
    for face in faces.detected(path, pixels):
        back = cv2.invertAffineTransform(faces.transform(face))
        low, high = faces.SIDE * 0.25, faces.SIDE * 0.85
        corners = np.array([(low, low), (high, low), (high, high), (low, high)]) @ back[:, :2].T + back[:, 2]
        boxes.append(_inside(corners.min(0), corners.max(0), pixels))
    return boxes


def _inside(low: Any, high: Any, pixels: Any) -> Box:
    height, width = pixels.shape[:2]
    left, top = max(0, int(low[0])), max(0, int(low[1]))
    return left, top, min(width, int(high[0])), min(height, int(high[1]))


def _by_cascade(pixels: Any) -> list[Box]:
    from skimage.data import lbp_frontal_face_cascade_filename
    from skimage.feature import Cascade

    height, width = pixels.shape[:2]
    factor = min(1.0, LOOKED_AT / max(height, width))
    small = np.asarray(Image.fromarray(pixels).resize((round(width * factor), round(height * factor))))
    if min(small.shape[:2]) <= SMALLEST:
        return []
    cascade = Cascade(lbp_frontal_face_cascade_filename())  # type: ignore[no-untyped-call]
    finds = cascade.detect_multi_scale(
        img=small,
        scale_factor=1.2,
        step_ratio=1,
        min_size=(SMALLEST, SMALLEST),
        max_size=(min(small.shape[:2]),) * 2,
        min_neighbor_number=4,
    )
    return [_scaled(one, factor) for one in finds]


def _scaled(find: Mapping[str, int], factor: float) -> Box:
    left, top = find["c"] / factor, find["r"] / factor
    return int(left), int(top), int(left + find["width"] / factor), int(top + find["height"] / factor)
