"""Control maps made by networks of the package controlnet_aux, with weights from files. Needs torch: not for the web process."""

from __future__ import annotations

import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from danqing import torchvision_shim as torchvision_shim  # before controlnet_aux
from danqing.control import plain, pose
from danqing.control.catalog import Values
from danqing.control.plain import Pixels
from danqing.errors import DanqingError

__all__ = ["detect", "detect_pose", "forget"]

KEPT = 2
"""Networks kept in memory."""

MOST_PIXELS = 1 << 23
"""Pixels of a picture that a network sees."""

Run = Callable[[Any, Pixels, int, Values], Any]
"""(detector, picture, pixels of its shorter side, settings) to a map."""

_kept: OrderedDict[tuple[str, ...], Any] = OrderedDict()
_lock = threading.Lock()


def detect(files: tuple[Path, ...], name: str, image: Pixels, values: Values, seed: int = 0) -> Pixels:
    """The map of `image` (h, w, 3) by the network module `name`, whose weights are `files`.

    Raises:
        DanqingError: `annotator_broken`.
    """
    if name in POSES:
        body, hands, face = POSES[name]
        return pose.draw(detect_pose(files, name, image, values), body=body, hands=hands, face=face)
    picture, (height, width) = _prepared(image, values.resolution)
    load, run = NETWORKS[name]
    with _lock, torch.no_grad():
        detector = _loaded(files, name, load)
        if name == "mobile_sam":
            found = _segments(detector, picture, seed)
        else:
            found = run(detector, picture, min(picture.shape[:2]), values)
    return np.ascontiguousarray(plain.rgb(np.asarray(found, np.uint8))[:height, :width])


def detect_pose(files: tuple[Path, ...], name: str, image: Pixels, values: Values) -> pose.Pose:
    """The people of `image` as one of the modules of `POSES` sees them.

    Raises:
        DanqingError: `annotator_broken`.
    """
    _, hands, face = POSES[name]
    picture, (height, width) = _prepared(image, values.resolution)
    with _lock:
        detector = _loaded(files, name, _openpose)
        found = detector.detect_poses(picture, hands, face)
    across, down = picture.shape[1] / width, picture.shape[0] / height

    def points(part: Any) -> pose.Points:
        # Hands and faces say -1 for what they do not see; the picture was padded at its right and bottom.
        return tuple(
            (p.x * across, p.y * down) if p is not None and p.x >= 0 and p.y >= 0 else None for p in part or ()
        )

    people = (
        pose.Person(points(one.body.keypoints), points(one.left_hand), points(one.right_hand), points(one.face))
        for one in found
    )
    return pose.Pose(tuple(people), width, height)


def forget() -> None:
    """Free every network."""
    with _lock:
        _kept.clear()


def _prepared(image: Pixels, resolution: int) -> tuple[Pixels, tuple[int, int]]:
    """`image` at its resolution, padded to multiples of 64; height and width without the padding."""
    height, width = plain.map_size(image.shape[0], image.shape[1], resolution)
    factor = min(1.0, (MOST_PIXELS / (height * width)) ** 0.5)
    small = plain.sized(image, max(1, int(min(height, width) * factor)))
    return plain.padded(small), (small.shape[0], small.shape[1])


def _loaded(files: tuple[Path, ...], name: str, load: Callable[[Path], Any]) -> Any:
    """The detector on the best device there is; of modules with the same loader and files there is one."""
    stamps = tuple(f"{path}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in files)
    key = (load.__name__, *stamps)
    if key not in _kept:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of model registries of other packages
                detector = load(files[0].parent)
        except Exception as error:
            reason = str(error).partition("\n")[0][:200] or type(error).__name__
            listed = ", ".join(str(path) for path in files)
            raise DanqingError("annotator_broken", name=name, file=listed, reason=reason) from error
        _kept[key] = _moved(detector)
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return _kept[key]


def _moved(detector: Any) -> Any:
    if torch.cuda.is_available() and hasattr(detector, "to"):
        detector.to("cuda")
    return detector


def _hed(folder: Path) -> Any:
    from controlnet_aux.hed import HEDdetector

    return HEDdetector.from_pretrained(str(folder))


def _pidinet(folder: Path) -> Any:
    from controlnet_aux.pidi import PidiNetDetector

    return PidiNetDetector.from_pretrained(str(folder))


def _mlsd(folder: Path) -> Any:
    from controlnet_aux.mlsd import MLSDdetector

    return MLSDdetector.from_pretrained(str(folder))


def _midas(folder: Path) -> Any:
    from controlnet_aux.midas import MidasDetector

    return MidasDetector.from_pretrained(str(folder))


def _normal_bae(folder: Path) -> Any:
    from controlnet_aux.normalbae import NormalBaeDetector

    return NormalBaeDetector.from_pretrained(str(folder))


def _zoe(folder: Path) -> Any:
    from controlnet_aux.zoe import ZoeDetector

    return ZoeDetector.from_pretrained(str(folder))


def _leres(folder: Path) -> Any:
    """Without the network that merges depths of several scales, which only "depth_leres++" uses."""
    from controlnet_aux.leres import LeresDetector
    from controlnet_aux.leres.leres.multi_depth_model_woauxi import RelDepthModel
    from controlnet_aux.leres.leres.net_tools import strip_prefix_if_present

    state = torch.load(folder / "res101.pth", map_location="cpu", weights_only=True)["depth_model"]
    model = RelDepthModel(backbone="resnext101")
    model.load_state_dict(strip_prefix_if_present(state, "module."))
    return LeresDetector(model.eval(), None)


def _leres_boosted(folder: Path) -> Any:
    from controlnet_aux.leres import LeresDetector

    with _no_arguments():
        return LeresDetector.from_pretrained(str(folder))


@contextmanager
def _no_arguments() -> Iterator[None]:
    """LeReS reads its options from the command line of whoever runs it."""
    arguments = sys.argv
    sys.argv = arguments[:1]
    try:
        yield
    finally:
        sys.argv = arguments


def _lineart(folder: Path) -> Any:
    from controlnet_aux.lineart import LineartDetector

    return LineartDetector.from_pretrained(str(folder))


def _lineart_anime(folder: Path) -> Any:
    from controlnet_aux.lineart_anime import LineartAnimeDetector

    return LineartAnimeDetector.from_pretrained(str(folder))


def _teed(folder: Path) -> Any:
    from controlnet_aux.teed import TEEDdetector

    return TEEDdetector.from_pretrained(str(folder), filename="5_model.pth")


def _anyline(folder: Path) -> Any:
    from controlnet_aux.anyline import AnylineDetector

    return AnylineDetector.from_pretrained(str(folder), filename="MTEED.pth")


def _mobile_sam(folder: Path) -> Any:
    from controlnet_aux.segment_anything import SamDetector

    return SamDetector.from_pretrained(str(folder), model_type="vit_t", filename="mobile_sam.pt")


def _openpose(folder: Path) -> Any:
    from controlnet_aux.open_pose import OpenposeDetector

    return OpenposeDetector.from_pretrained(str(folder))


def _segments(detector: Any, picture: Pixels, seed: int) -> Pixels:
    """Every segment in a colour of its own, the small ones on top."""
    random = np.random.default_rng(seed)
    canvas = np.zeros_like(picture)
    for found in sorted(detector.mask_generator.generate(picture), key=lambda one: -one["area"]):
        canvas[found["segmentation"]] = random.integers(0, 255, 3, np.uint8)
    return canvas


def _call(**fixed: Any) -> Run:
    def run(detector: Any, picture: Pixels, side: int, values: Values) -> Any:
        return detector(picture, detect_resolution=side, image_resolution=side, output_type="np", **fixed)

    return run


def _run_mlsd(detector: Any, picture: Pixels, side: int, values: Values) -> Any:
    return _call(thr_v=values.a, thr_d=values.b)(detector, picture, side, values)


def _run_normal(detector: Any, picture: Pixels, side: int, values: Values) -> Any:
    return _call(depth_and_normal=True, bg_th=values.a)(detector, picture, side, values)[1]


def _run_leres(detector: Any, picture: Pixels, side: int, values: Values) -> Any:
    return _call(thr_a=values.a, thr_b=values.b)(detector, picture, side, values)


def _run_boosted(detector: Any, picture: Pixels, side: int, values: Values) -> Any:
    return _call(thr_a=values.a, thr_b=values.b, boost=True)(detector, picture, side, values)


def _run_teed(detector: Any, picture: Pixels, side: int, values: Values) -> Any:
    return detector(picture, detect_resolution=side, safe_steps=int(values.a), output_type="np")


def _run_anyline(detector: Any, picture: Pixels, side: int, values: Values) -> Any:
    return detector(picture, detect_resolution=side, output_type="np")


NETWORKS: dict[str, tuple[Callable[[Path], Any], Run]] = {
    "hed": (_hed, _call()),
    "hed_safe": (_hed, _call(safe=True)),
    "scribble_hed": (_hed, _call(scribble=True)),
    "pidinet": (_pidinet, _call()),
    "pidinet_safe": (_pidinet, _call(safe=True)),
    "pidinet_scribble": (_pidinet, _call(scribble=True)),
    "pidinet_sketch": (_pidinet, _call(apply_filter=True)),
    "mlsd": (_mlsd, _run_mlsd),
    "depth": (_midas, _call()),
    "normal_map": (_midas, _run_normal),
    "normal_bae": (_normal_bae, _call()),
    "depth_zoe": (_zoe, _call()),
    "depth_leres": (_leres, _run_leres),
    "depth_leres++": (_leres_boosted, _run_boosted),
    "lineart": (_lineart, _call()),
    "lineart_coarse": (_lineart, _call(coarse=True)),
    "lineart_anime": (_lineart_anime, _call()),
    "softedge_teed": (_teed, _run_teed),
    "softedge_anyline": (_anyline, _run_anyline),
    "mobile_sam": (_mobile_sam, _call()),
}
"""How a module's network is loaded from the folder of weights, and how it runs."""

POSES: dict[str, tuple[bool, bool, bool]] = {
    "openpose": (True, False, False),
    "openpose_hand": (True, True, False),
    "openpose_face": (True, False, True),
    "openpose_faceonly": (False, False, True),
    "openpose_full": (True, True, True),
}
"""What each pose module looks for and draws: body, hands, face."""
