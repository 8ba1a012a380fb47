"""The roles on every distribution that they name: in check mode, against recorded facts. Debian 12 is also baked for real."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.ansible.support import FACTS, ROOT, play, recorded

SYSTEMS = sorted(path.stem for path in FACTS.glob("*.json"))
ANSIBLE = ROOT / "ansible"
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.skipif(
    not (BIN / "ansible-playbook").exists(), reason="ansible-core is missing: pip install -e .[box]"
)
as_root_on_debian = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("apt-get"), reason="check mode of apt needs root on Debian or Ubuntu"
)


def test_ansible_lint_at_production_level(tmp_path: Path) -> None:
    command = [str(BIN / "ansible-lint"), "--offline", "--profile", "production", "--nocolor", "-q", "site.yml"]
    environment = {**os.environ, "ANSIBLE_HOME": str(tmp_path), "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(command, check=False, cwd=ANSIBLE, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


@as_root_on_debian
@pytest.mark.slow
def test_check_mode_on_every_distribution(tmp_path: Path) -> None:
    hosts = {system: recorded(system) for system in SYSTEMS if system != "Debian-12"}
    played = play(tmp_path, hosts, {}, "--skip-tags", "cleanup")
    assert played.status == 0, played.text[-4000:]
    python = played.lines_of("python : Fetch a newer Python with uv")
    fetched = {system: f"skipping: [{system}]" not in python for system in hosts}
    assert fetched == {"Ubuntu-20.04": True, "Ubuntu-22.04": True, "Ubuntu-24.04": False}
    old_ssh = played.lines_of("hardening : Refuse logins by password, in the words of an older ssh")
    assert "skipping: [Ubuntu-22.04]" in old_ssh
    assert "skipping: [Ubuntu-20.04]" not in old_ssh


def test_what_is_not_supported_is_refused_by_name(tmp_path: Path) -> None:
    hosts = {
        "arm": recorded("Ubuntu-24.04", ansible_architecture="aarch64"),
        "old": recorded("Ubuntu-22.04", ansible_distribution_version="18.04"),
    }
    played = play(tmp_path, hosts, {name: {"ansible_become": False} for name in hosts}, "--tags", "always")
    assert played.failed("arm")
    assert played.failed("old")
    text = re.sub(r"\s+", " ", played.text)
    assert "aarch64. ARM machines (Graviton) are not supported" in text
    assert "This is Ubuntu-18.04" in text


def test_the_driver_decides_the_build_of_torch(tmp_path: Path) -> None:
    drivers = {"new": "595.91.07", "lts": "580.105.08", "middle": "535.183.01", "old": "470.256.02", "ancient": "390.1"}
    hosts = {name: recorded("Ubuntu-24.04") for name in (*drivers, "none", "asked")}
    variables: dict[str, dict[str, object]] = {
        name: {"danqing_torch_driver": driver} for name, driver in drivers.items()
    }
    variables["asked"] = {"danqing_torch_driver": "470.256.02", "danqing_torch_build": "cpu"}
    for name in hosts:
        variables.setdefault(name, {})["ansible_become"] = False
    played = play(tmp_path, hosts, variables, "--tags", "torch", "--diff", "-f", "8")
    for name, build in {"new": "cu130", "lts": "cu130", "middle": "cu126", "asked": "cpu", "none": "cpu"}.items():
        assert not played.failed(name), played.text
        assert re.search(rf'"build": "{build}"', played.text)
    assert played.failed("old")
    assert played.failed("ancient")
    text = re.sub(r"\s+", " ", played.text)
    assert "The NVIDIA driver 470.256.02 fits no build of torch" in text
    assert "525.60.13 or newer for CUDA 12.6" in text
    assert "danqing_torch_build=cpu" in text


@as_root_on_debian
def test_lean_bases_get_the_driver_of_the_distribution(tmp_path: Path) -> None:
    """apt here is Debian's, which knows no driver of Ubuntu's: `kmod` plays one that it knows."""
    hosts = {name: recorded("Ubuntu-24.04") for name in ("known", "brought")}
    hosts["focal"] = recorded("Ubuntu-20.04")
    variables: dict[str, dict[str, object]] = {name: {"danqing_base": "noble-lean"} for name in hosts}
    variables["brought"] = {"danqing_base": "noble-pytorch"}
    options = ("--tags", "driver", "-e", json.dumps({"ansible_become": False}))
    played = play(tmp_path, hosts, variables, *options)
    assert {name: played.failed(name) for name in hosts} == {
        "known": True,
        "brought": False,
        "focal": True,
    }
    text = re.sub(r"\s+", " ", played.text)
    assert "apt knows no package nvidia-headless-580-server" in text
    assert "Ubuntu 20.04 has no current NVIDIA server driver" in text
    (tmp_path / "again").mkdir()
    packages = json.dumps({"ansible_become": False, "danqing_driver_packages": ["kmod"]})
    again = play(tmp_path / "again", hosts, variables, "--tags", "driver", "-e", packages)
    assert again.status == 0, again.text[-3000:]
    assert "[known]" in again.lines_of("driver : Install the driver of the distribution")


def test_the_distributions_differ_in_the_same_variables() -> None:
    tables = {path.stem: yaml.safe_load(path.read_text()) for path in (ANSIBLE / "vars").glob("*.yml")}
    assert sorted(tables) == SYSTEMS
    assert len({tuple(sorted(table)) for table in tables.values()}) == 1
    ends = {name: str(table["danqing_end_of_life"]) for name, table in tables.items()}
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\d", end) for end in ends.values())


def test_every_knob_has_a_comment() -> None:
    lines = (ANSIBLE / "group_vars/all.yml").read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"danqing_\w+:", line):
            above = lines[number - 1]
            assert above.startswith(("#", "danqing_")), f"{line}: what is it?"


def test_the_table_of_drivers_is_the_boxs() -> None:
    from danqing.box.gpu import OLDEST

    rows = yaml.safe_load((ANSIBLE / "group_vars/all.yml").read_text())["danqing_torch_builds"]
    assert {int(row["cuda"].split(".")[0]): row["driver"] for row in rows} == OLDEST


def test_torch_is_the_one_that_is_pinned() -> None:
    knobs = yaml.safe_load((ANSIBLE / "group_vars/all.yml").read_text())
    assert f"torch=={knobs['danqing_torch_version']}" in (ROOT / "constraints.txt").read_text().split()


def test_model_groups_exist() -> None:
    from danqing.library.fetch import chosen
    from danqing.library.manifest import read_manifest

    groups = yaml.safe_load((ANSIBLE / "group_vars/all.yml").read_text())["danqing_model_groups"]
    rows = chosen(read_manifest(), groups)
    text = (ANSIBLE / "roles/models/files/README.txt").read_text("utf-8")
    for row in rows:
        licence = "research only" if "research only" in row.license else row.license
        assert licence in text, f"{row.name}: README.txt does not say what {row.license} means"
