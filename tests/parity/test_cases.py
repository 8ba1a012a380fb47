"""Every recorded case of the WebUI, drawn again as a user's request is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.parity.fixture import CASES, make
from tests.parity.replay import Replay

FOUND = sorted(path for kind in ("txt2img", "img2img") for path in (CASES / kind).glob("*.json"))


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    folder = tmp_path_factory.mktemp("parity")
    return Replay(make(folder / "data"), CASES / "inputs", folder / "out")


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_recorded_case(replay: Replay, path: Path) -> None:
    """Latents, pixels, the number of pictures and the infotext."""
    result = replay.case(path)
    assert result.good, result
    assert not result.note.startswith("infotext"), result.note


def test_what_is_written_is_what_was_compared(replay: Replay) -> None:
    path = CASES / "txt2img" / "p_plain.json"
    assert replay.case(path).latent is not None
    latent = np.load(replay.out / "p_plain.0.npz")["latent"]
    recorded = np.load(path.with_name("p_plain.0.npz"))["iter0_latent"][0]
    assert latent.shape == recorded.shape
    assert np.abs(latent - recorded).max() < 1e-3
    assert (replay.out / "p_plain.0.png").is_file()


def test_a_wrong_picture_is_seen(replay: Replay, tmp_path: Path) -> None:
    """The comparison can fail: another seed is beyond the bounds."""
    source = CASES / "txt2img" / "p_plain.json"
    case = json.loads(source.read_text("utf-8"))
    case["request"]["seed"] = 43
    for name in ("p_plain.0.npz", "p_plain.0.png"):
        (tmp_path / name).write_bytes(source.with_name(name).read_bytes())
    (tmp_path / "p_plain.json").write_text(json.dumps(case), "utf-8")
    assert not replay.case(tmp_path / "p_plain.json").good
