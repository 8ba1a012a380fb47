"""Faces cut out and put back; the plan of a restoration with a detector and a network that are stand-ins for weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from danqing.engine import extras
from danqing.engine.calls import Enlarge, Work
from danqing.errors import DanqingError
from danqing.upscale import faces

FACE = tuple((float(40 + x / 8), float(30 + y / 8)) for x, y in faces.TEMPLATE)
"""A face of 64 pixels whose corner lies at (40, 30)."""


def picture() -> np.ndarray:
    x, y = np.meshgrid(np.arange(160), np.arange(120))
    return np.stack([x, y, 255 - x], -1).astype(np.uint8)


def test_a_face_is_laid_on_the_template() -> None:
    crop = faces.aligned(picture(), FACE).astype(int)
    assert crop.shape == (512, 512, 3)
    for at in (64, 256, 448):
        assert abs(crop[at, at, 0] - (40 + at / 8)) <= 1
        assert abs(crop[at, at, 1] - (30 + at / 8)) <= 1


def test_an_unchanged_face_leaves_no_trace_and_a_changed_one_stays_inside() -> None:
    original = picture()
    same = faces.pasted(original, faces.aligned(original, FACE), FACE)
    assert np.abs(same.astype(int) - original).max() <= 1
    painted = faces.pasted(original, np.full((512, 512, 3), 255, np.uint8), FACE)
    assert (painted[62, 72] == 255).all()
    changed = (painted != original).any(axis=2)
    assert not changed[:28].any()
    assert not changed[:, :38].any()
    assert not changed[96:].any()


def test_missing_files_are_named_one_after_the_other(tmp_path: Path) -> None:
    for name, file in (("GFPGAN", "GFPGANv1.4.pth"), ("CodeFormer", "codeformer-v0.1.0.pth")):
        with pytest.raises(DanqingError, match=file.replace(".", r"\.")) as caught:
            faces.weights(tmp_path, name)
        assert caught.value.code == "files_missing"
        folder = tmp_path / "models" / faces.RESTORERS[name][0]
        folder.mkdir(parents=True)
        (folder / file).touch()
        with pytest.raises(DanqingError, match="yunet"):
            faces.weights(tmp_path, name)


def test_a_broken_detector_is_named(tmp_path: Path) -> None:
    (tmp_path / "face.onnx").write_text("nothing")
    with pytest.raises(DanqingError) as caught:
        faces.detected(tmp_path / "face.onnx", picture())
    assert caught.value.code == "model_broken"


def test_every_face_found_goes_through_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("GFPGAN/GFPGANv1.4.pth", "facelib/face_detection_yunet_2023mar.onnx"):
        path = tmp_path / "models" / place
        path.parent.mkdir(parents=True)
        path.touch()
    other = tuple((x - 30, y) for x, y in FACE)
    monkeypatch.setattr(faces, "detected", lambda _path, _pixels: [other, FACE])
    plan, asked, answer = extras.restored_faces(tmp_path, "GFPGAN", picture()), [], None
    while True:
        try:
            call = plan.send(answer)
        except StopIteration as stop:
            result = stop.value
            break
        if isinstance(call, Work):
            answer = call.run()
        else:
            assert isinstance(call, Enlarge)
            asked.append(call)
            answer = 255 - call.pixels
    assert [call.path.name for call in asked] == ["GFPGANv1.4.pth"] * 2
    assert [call.tile for call in asked] == [0, 0]
    assert abs(int(result[62, 90, 0]) - (255 - 90)) <= 2
    assert (result[110] == picture()[110]).all()
