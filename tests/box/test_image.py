"""The image before anybody has booted it: nothing of the builder travels, everything that the box needs does."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

from boxlab import lab
from boxlab.host import run

from tests.box.conftest import ROOT

TOKENS = re.compile(rb"AKIA[0-9A-Z]{16}|-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----|(?:hf|ghp)_[A-Za-z0-9]{30,}")


def test_validator_finds_nothing_of_the_builder(sealed: Path) -> None:
    script = ROOT / "ansible/roles/cleanup/files/validate.sh"
    done = run("sh", script, check=False, env={**os.environ, "ROOT": str(sealed), "SEALED": "1", "MARKETPLACE": "0"})
    assert done.returncode == 0, done.stdout


def test_validator_notices_what_is_left(sealed: Path, tmp_path: Path) -> None:
    upper, work, place = (tmp_path / name for name in ("upper", "work", "root"))
    for folder in (upper, work, place):
        folder.mkdir()
    run("mount", "-t", "overlay", "spoilt", "-o", f"lowerdir={sealed},upperdir={upper},workdir={work}", place)
    try:
        (place / "root/danqing-password").write_text("x")
        (place / "etc/machine-id").write_text("0" * 32)
        script = ROOT / "ansible/roles/cleanup/files/validate.sh"
        done = run("sh", script, check=False, env={**os.environ, "ROOT": str(place), "SEALED": "1"})
    finally:
        run("umount", place)
    assert done.returncode == 1
    assert "danqing-password" in done.stdout
    assert "machine-id" in done.stdout


def test_no_secret_in_any_file_that_the_bake_wrote(made: lab.Lab, sealed: Path) -> None:
    found = []
    for folder in ("etc", "root", "home", "opt/danqing/share", "var/lib/danqing", "var/lib/cloud", "var/log", "tmp"):
        for path in (sealed / folder).rglob("*"):
            if (
                path.is_file()
                and not path.is_symlink()
                and path.stat().st_size < 5_000_000
                and TOKENS.search(path.read_bytes())
            ):
                found.append(str(path.relative_to(sealed)))
    assert found == []
    assert list((sealed / "etc/ssh").glob("ssh_host_*")) == []
    assert (sealed / "etc/machine-id").read_text() == ""


def test_nobody_may_log_in_yet(sealed: Path) -> None:
    keys = [path for path in sealed.glob("home/*/.ssh/authorized_keys") if path.read_text().strip()]
    assert keys == []
    assert not (sealed / "root/.ssh/authorized_keys").exists() or not (sealed / "root/.ssh/authorized_keys").read_text()
    hashes = [line.split(":")[1] for line in (sealed / "etc/shadow").read_text().splitlines()]
    assert all(found.startswith(("!", "*")) for found in hashes)


def test_no_empty_mount_points_and_no_wheelhouse(sealed: Path) -> None:
    assert not (sealed / "opt/wheelhouse").exists()
    assert (sealed / "etc/resolv.conf").read_text() == ""


def test_the_miniature_model_is_there_byte_for_byte(sealed: Path) -> None:
    rows = tomllib.loads((ROOT / "app/danqing/library/manifest.toml").read_text())
    pins = [row for row in _tables(rows) if row.get("name") == "danqing-mini"]
    weights = list(sealed.glob("opt/danqing/venv/lib/python3*/site-packages/danqing/**/danqing-mini.safetensors"))
    assert weights
    digest = hashlib.sha256(weights[0].read_bytes()).hexdigest()
    assert digest in {str(row.get("sha256")) for row in pins}


def _tables(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [row for inner in node for row in _tables(inner)]
    if isinstance(node, dict):
        return [node, *(row for inner in node.values() for row in _tables(inner))]
    return []


def test_list_of_components_names_what_is_installed(out: Path) -> None:
    manifest = json.loads((out / "manifest.json").read_text())["builds"][-1]
    told = manifest["custom_data"]
    document = json.loads((out / told["sbom"]).read_text())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    names = {part["name"] for part in document["components"]}
    assert {"torch", "gradio", "danqing", "openssh-server", "debian", "danqing-mini.safetensors"} <= names
    assert any(name.startswith("nginx") for name in names)
    references = [part["bom-ref"] for part in document["components"]]
    assert len(references) == len(set(references))
    assert told["name"] == document["metadata"]["component"]["name"]


def test_image_is_registered_with_its_tags(made: lab.Lab, image: str) -> None:
    if made.kept:
        return  # an image of an earlier bake has only its name in the emulated AWS
    (row,) = made.client().describe_images(ImageIds=[image])["Images"]
    tags = {tag["Key"]: tag["Value"] for tag in row["Tags"]}
    assert tags["Project"] == "danqing"
    assert tags["danqing:base"] == "debian-lab"
    assert tags["danqing:user"] == "admin"
    assert row["RootDeviceType"] == "ebs"
