"""Every preprocessor under the ControlNet extension's names: labels, types, sliders, and what each needs. No torch, no numpy.

The order is the extension's; it decides which module of a type is the default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from danqing.errors import DanqingError
from danqing.plugins.loading import active

How = Literal["plain", "network", "vision", "absent", "plugin"]
"""plain: no weights. network: weights of its own. vision: an image encoder reads the picture.
absent: not built, or what it would feed is not."""

PLAIN: How = "plain"
NETWORK: How = "network"
VISION: How = "vision"
ABSENT: How = "absent"


@dataclass(frozen=True, slots=True)
class Slider:
    """A setting of a preprocessor; `value` is the default."""

    name: str
    value: float
    minimum: float
    maximum: float
    step: float

    def settle(self, given: float) -> float:
        """`given`, or the default where that is out of range."""
        return given if self.minimum <= given <= self.maximum else self.value


RESOLUTION = Slider("Resolution", 512, 64, 2048, 8)
SIZED = (RESOLUTION,)
STYLED = (RESOLUTION, Slider("Style Fidelity (only for Balanced mode)", 0.5, 0.0, 1.0, 0.01))
POSE_FILES = ("body_pose_model.pth", "hand_pose_model.pth", "facenet.pth")
UNUSED = 0.5
"""What stands for a threshold that a preprocessor does not have."""


@dataclass(frozen=True, slots=True)
class Row:
    """A preprocessor. `types`: the control types that offer it; `files`: names below models/annotators."""

    name: str
    how: How
    types: tuple[str, ...]
    sliders: tuple[Slider, ...]
    alias: str = ""
    files: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """As people see it."""
        return self.alias or self.name

    @property
    def model_free(self) -> bool:
        """Works without a ControlNet."""
        return self.name.startswith(("reference_", "revision_"))

    @property
    def needs_mask(self) -> bool:
        """Makes no map of a picture alone."""
        return "Inpaint" in self.types


class Values(NamedTuple):
    """What a preprocessor runs with. `resolution`: pixels of the shorter side; `a`, `b`: its thresholds."""

    resolution: int
    a: float
    b: float


ROWS: tuple[Row, ...] = (
    Row("none", PLAIN, (), SIZED),
    Row("ip-adapter-auto", VISION, ("IP-Adapter",), SIZED),
    Row("tile_resample", PLAIN, ("Tile",), (RESOLUTION, Slider("Down Sampling Rate", 1.0, 1.0, 8.0, 0.01))),
    Row("pidinet", NETWORK, ("SoftEdge",), SIZED, alias="softedge_pidinet", files=("table5_pidinet.pth",)),
    Row("oneformer_ade20k", ABSENT, ("Segmentation",), SIZED, alias="seg_ofade20k"),
    Row(
        "pidinet_scribble",
        NETWORK,
        ("Scribble", "SparseCtrl"),
        SIZED,
        alias="scribble_pidinet",
        files=("table5_pidinet.pth",),
    ),
    Row("revision_clipvision", ABSENT, ("Revision",), (RESOLUTION, Slider("Noise Augmentation", 0.0, 0.0, 1.0, 0.01))),
    Row("reference_only", PLAIN, ("Reference",), STYLED),
    Row("recolor_luminance", PLAIN, ("Recolor",), (RESOLUTION, Slider("Gamma Correction", 1.0, 0.1, 2.0, 0.001))),
    Row(
        "openpose_full",
        NETWORK,
        ("OpenPose",),
        SIZED,
        files=POSE_FILES,
    ),
    Row("normal_bae", NETWORK, ("NormalMap",), SIZED, files=("scannet.pt",)),
    Row(
        "mlsd",
        NETWORK,
        ("MLSD",),
        (
            RESOLUTION,
            Slider("MLSD Value Threshold", 0.1, 0.01, 2.0, 0.01),
            Slider("MLSD Distance Threshold", 0.1, 0.01, 20.0, 0.01),
        ),
        files=("mlsd_large_512_fp32.pth",),
    ),
    Row("lineart_standard", PLAIN, ("Lineart",), SIZED, alias="lineart_standard (from white bg & black line)"),
    Row("ip-adapter_clip_sd15", VISION, ("IP-Adapter",), SIZED, alias="ip-adapter_clip_h"),
    Row("inpaint_only", PLAIN, ("Inpaint",), ()),
    Row("depth", NETWORK, ("Depth",), SIZED, alias="depth_midas", files=("dpt_hybrid-midas-501f0c75.pt",)),
    Row(
        "canny",
        PLAIN,
        ("Canny",),
        (RESOLUTION, Slider("Low Threshold", 100, 1, 255, 1), Slider("High Threshold", 200, 1, 255, 1)),
    ),
    Row("invert", PLAIN, ("Canny", "Lineart", "MLSD", "Scribble"), (), alias="invert (from white bg & black line)"),
    Row(
        "tile_colorfix+sharp",
        PLAIN,
        ("Tile",),
        (RESOLUTION, Slider("Variation", 8.0, 3.0, 32.0, 1.0), Slider("Sharpness", 1.0, 0.0, 2.0, 0.01)),
    ),
    Row("tile_colorfix", PLAIN, ("Tile",), (RESOLUTION, Slider("Variation", 8.0, 3.0, 32.0, 1.0))),
    Row("threshold", PLAIN, (), (RESOLUTION, Slider("Binarization Threshold", 127, 0, 255, 0.01))),
    Row("clip_vision", ABSENT, ("T2I-Adapter",), SIZED, alias="t2ia_style_clipvision"),
    Row("pidinet_sketch", NETWORK, ("T2I-Adapter",), SIZED, alias="t2ia_sketch_pidi", files=("table5_pidinet.pth",)),
    Row("color", PLAIN, ("T2I-Adapter",), SIZED, alias="t2ia_color_grid"),
    Row(
        "softedge_teed", NETWORK, ("SoftEdge",), (RESOLUTION, Slider("Safe Steps", 2, 0, 10, 1)), files=("5_model.pth",)
    ),
    Row("pidinet_safe", NETWORK, ("SoftEdge",), SIZED, alias="softedge_pidisafe", files=("table5_pidinet.pth",)),
    Row("hed_safe", NETWORK, ("SoftEdge",), SIZED, alias="softedge_hedsafe", files=("ControlNetHED.pth",)),
    Row("hed", NETWORK, ("SoftEdge",), SIZED, alias="softedge_hed", files=("ControlNetHED.pth",)),
    Row(
        "softedge_anyline",
        NETWORK,
        ("SoftEdge",),
        (Slider("Resolution", 1280, 64, 2048, 8), Slider("Safe Steps", 2, 0, 10, 1)),
        files=("MTEED.pth",),
    ),
    Row("shuffle", PLAIN, ("Shuffle",), ()),
    Row("segmentation", ABSENT, ("Segmentation",), SIZED, alias="seg_ufade20k"),
    Row("oneformer_coco", ABSENT, ("Segmentation",), SIZED, alias="seg_ofcoco"),
    Row("anime_face_segment", ABSENT, ("Segmentation",), SIZED, alias="seg_anime_face"),
    Row("scribble_xdog", PLAIN, ("Scribble", "SparseCtrl"), (RESOLUTION, Slider("XDoG Threshold", 32, 1, 64, 0.01))),
    Row("scribble_hed", NETWORK, ("Scribble", "SparseCtrl"), SIZED, files=("ControlNetHED.pth",)),
    Row(
        "revision_ignore_prompt", ABSENT, ("Revision",), (RESOLUTION, Slider("Noise Augmentation", 0.0, 0.0, 1.0, 0.01))
    ),
    Row("reference_adain+attn", PLAIN, ("Reference",), STYLED),
    Row("reference_adain", PLAIN, ("Reference",), STYLED),
    Row("recolor_intensity", PLAIN, ("Recolor",), (RESOLUTION, Slider("Gamma Correction", 1.0, 0.1, 2.0, 0.001))),
    Row(
        "openpose_hand",
        NETWORK,
        ("OpenPose",),
        SIZED,
        files=POSE_FILES,
    ),
    Row(
        "openpose_faceonly",
        NETWORK,
        ("OpenPose",),
        SIZED,
        files=POSE_FILES,
    ),
    Row(
        "openpose_face",
        NETWORK,
        ("OpenPose",),
        SIZED,
        files=POSE_FILES,
    ),
    Row("openpose", NETWORK, ("OpenPose",), SIZED, files=POSE_FILES),
    Row(
        "normal_map",
        NETWORK,
        ("NormalMap",),
        (RESOLUTION, Slider("Normal Background Threshold", 0.4, 0.0, 1.0, 0.01)),
        alias="normal_midas",
        files=("dpt_hybrid-midas-501f0c75.pt",),
    ),
    Row(
        "normal_dsine",
        ABSENT,
        ("NormalMap",),
        (RESOLUTION, Slider("Fov", 60, 0, 360, 0.1), Slider("Iterations", 5, 1, 20, 1)),
    ),
    Row("mobile_sam", NETWORK, ("Segmentation",), SIZED, files=("mobile_sam.pt",)),
    Row(
        "mediapipe_face",
        ABSENT,
        (),
        (RESOLUTION, Slider("Max Faces", 1, 1, 10, 1), Slider("Min Face Confidence", 0.5, 0.01, 1.0, 0.01)),
    ),
    Row("lineart", NETWORK, ("Lineart",), SIZED, alias="lineart_realistic", files=("sk_model.pth", "sk_model2.pth")),
    Row("lineart_coarse", NETWORK, ("Lineart",), SIZED, files=("sk_model.pth", "sk_model2.pth")),
    Row("lineart_anime_denoise", ABSENT, ("Lineart",), SIZED),
    Row("lineart_anime", NETWORK, ("Lineart",), SIZED, files=("netG.pth",)),
    Row("ip-adapter_pulid", ABSENT, ("IP-Adapter",), ()),
    Row("ip-adapter_face_id_plus", ABSENT, ("IP-Adapter",), SIZED),
    Row("ip-adapter_face_id", ABSENT, ("IP-Adapter",), SIZED),
    Row("ip-adapter_clip_sdxl_plus_vith", VISION, ("IP-Adapter",), SIZED),
    Row("ip-adapter_clip_sdxl", VISION, ("IP-Adapter",), SIZED, alias="ip-adapter_clip_g"),
    Row("instant_id_face_keypoints", ABSENT, ("Instant-ID",), SIZED),
    Row("instant_id_face_embedding", ABSENT, ("Instant-ID",), SIZED),
    Row("inpaint_only+lama", ABSENT, ("Inpaint",), ()),
    Row("inpaint", PLAIN, ("Inpaint",), (), alias="inpaint_global_harmonious"),
    Row("facexlib", ABSENT, (), ()),
    Row("dw_openpose_full", ABSENT, ("OpenPose",), SIZED),
    Row("depth_zoe", NETWORK, ("Depth",), SIZED, files=("ZoeD_M12_N.pt",)),
    Row(
        "depth_leres++",
        NETWORK,
        ("Depth",),
        (RESOLUTION, Slider("Remove Near %", 0, 0, 100, 0.1), Slider("Remove Background %", 0, 0, 100, 0.1)),
        files=("res101.pth", "latest_net_G.pth"),
    ),
    Row(
        "depth_leres",
        NETWORK,
        ("Depth",),
        (RESOLUTION, Slider("Remove Near %", 0, 0, 100, 0.1), Slider("Remove Background %", 0, 0, 100, 0.1)),
        files=("res101.pth",),
    ),
    Row("depth_hand_refiner", ABSENT, ("Depth",), SIZED),
    Row("depth_anything_v2", ABSENT, ("Depth",), SIZED),
    Row("depth_anything", ABSENT, ("Depth",), SIZED),
    Row("densepose_parula", ABSENT, ("OpenPose",), SIZED, alias="densepose_parula (black bg & blue torso)"),
    Row("densepose", ABSENT, ("OpenPose",), SIZED, alias="densepose (pruple bg & purple torso)"),
    Row("blur_gaussian", PLAIN, ("Tile",), (RESOLUTION, Slider("Sigma", 9.0, 0.01, 64.0, 0.01))),
    Row("animal_openpose", ABSENT, ("OpenPose",), SIZED),
)
"""All preprocessors."""

TYPES: tuple[str, ...] = (
    "All",
    "Canny",
    "Depth",
    "IP-Adapter",
    "Inpaint",
    "Instant-ID",
    "InstructP2P",
    "Lineart",
    "MLSD",
    "NormalMap",
    "OpenPose",
    "Recolor",
    "Reference",
    "Revision",
    "Scribble",
    "Segmentation",
    "Shuffle",
    "SoftEdge",
    "SparseCtrl",
    "T2I-Adapter",
    "Tile",
)
"""Control types, as lists show them."""

WORDS: dict[str, tuple[str, ...]] = {
    "InstructP2P": ("ip2p",),
    "Segmentation": ("seg",),
    "NormalMap": ("normal",),
    "IP-Adapter": ("ip_adapter", "ipadapter"),
    "T2I-Adapter": ("t2i_adapter", "t2iadapter", "t2ia"),
    "Instant-ID": ("instant_id", "instantid"),
    "Scribble": ("sketch",),
    "Tile": ("blur",),
    "OpenPose": ("densepose",),
}
"""What a model's name may hold instead of its type's."""

NOT_DETECTED = frozenset({"clip_vision", "revision_clipvision", "revision_ignore_prompt", "ip-adapter-auto"})
"""Modules that the extension refuses to run by themselves."""


def rows() -> tuple[Row, ...]:
    """Ours, then those of plug-ins."""
    taken = {row.name for row in ROWS}
    return ROWS + tuple(
        Row(one.name, "plugin", one.types, SIZED) for one in active().preprocessors() if one.name not in taken
    )


def find(name: str) -> Row:
    """A preprocessor by its name or its label, also by the label without what stands in brackets.

    Raises:
        DanqingError: `unknown_preprocessor`.
    """
    for row in rows():
        if name in (row.name, row.label):
            return row
    for row in ROWS:
        if name == row.label.partition(" (")[0]:
            return row
    raise DanqingError("unknown_preprocessor", name=name[:200], known=", ".join(row.name for row in ROWS))


def settings_of(row: Row, processor_res: float = -1, threshold_a: float = -1, threshold_b: float = -1) -> Values:
    """The values that `row` runs with: what is out of its slider's range, as -1 is, becomes the default."""
    if not row.sliders:
        return Values(int(RESOLUTION.value), UNUSED, UNUSED)
    resolution, *thresholds = row.sliders
    a, b = (
        thresholds[place].settle(given) if place < len(thresholds) else UNUSED
        for place, given in enumerate((threshold_a, threshold_b))
    )
    return Values(int(resolution.settle(processor_res)), a, b)


def of_type(kind: str) -> tuple[Row, ...]:
    """The preprocessors of a control type, "none" first."""
    return tuple(row for row in rows() if kind == "All" or row.name == "none" or kind in row.types)


def default_of(kind: str) -> Row:
    """The preprocessor that a control type begins with."""
    rows = of_type(kind)
    return rows[1] if kind != "All" and len(rows) > 1 else rows[0]


def models_of_type(kind: str, titles: Sequence[str]) -> list[str]:
    """The models, by their titles "name [hash]", whose names tell of a control type."""
    words = (kind.lower(), *WORDS.get(kind, ()))
    return [title for title in titles if kind == "All" or any(word in title.lower() for word in words)]


def default_model(titles: Sequence[str]) -> str:
    """The first model of version 1.1, else the first, else "None"."""
    versioned = (title for title in titles if "11" in title.partition("[")[0])
    return next(versioned, titles[0] if titles else "None")
