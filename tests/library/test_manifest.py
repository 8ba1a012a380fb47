from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from danqing.errors import DanqingError
from danqing.library.index import MINI
from danqing.library.manifest import FOLDERS, Kind, read_manifest

GOOD = """
[[weights]]
name = "sd-1.5"
kind = "checkpoint"
file = "models/Stable-diffusion/sd15.safetensors"
bytes = 10
sha256 = "{sha}"
license = "CreativeML-OpenRAIL-M"
groups = ["base"]
[[weights.sources]]
type = "hub"
repo = "owner/name"
path = "sd15.safetensors"
[[weights.sources]]
type = "s3"
bucket = "b"
key = "k"
""".replace("{sha}", "0" * 64)


def read(tmp_path: Path, text: str) -> object:
    path = tmp_path / "manifest.toml"
    path.write_text(text, "utf-8")
    return read_manifest(path)


def test_a_manifest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "manifest.toml"
    path.write_text(GOOD, "utf-8")
    manifest = read_manifest(path)
    assert [source.type for source in manifest.group("base")[0].sources] == ["hub", "s3"]
    assert manifest.group("other") == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("models/Stable-diffusion/sd15", "models/Stable-diffusion/../../../etc/x"),
        ("models/Stable-diffusion/sd15", "/etc/x"),
        ("models/Stable-diffusion/sd15", "models/VAE/x"),
        ("bytes = 10", "bytes = 0"),
        ("0" * 64, "zz"),
        ('license = "CreativeML-OpenRAIL-M"', 'license = ""'),
        ('kind = "checkpoint"', 'kind = "virus"'),
        ('type = "s3"', 'type = "ftp"'),
        ('groups = ["base"]', 'colour = "red"'),
        ("[[weights]]", "[[weights"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str) -> None:
    assert old in GOOD
    with pytest.raises(DanqingError, match=r"manifest\.toml") as caught:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert caught.value.code == "manifest_broken"


def test_names_are_unique(tmp_path: Path) -> None:
    with pytest.raises(DanqingError, match="twice"):
        read(tmp_path, GOOD + GOOD)


def test_every_kind_has_a_folder() -> None:
    assert set(FOLDERS) == set(Kind)


def test_the_shipped_manifest_describes_the_shipped_model() -> None:
    row = next(row for row in read_manifest().weights if row.name == "danqing-mini")
    content = MINI.read_bytes()
    assert (row.bytes, row.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert row.license == "Apache-2.0"
