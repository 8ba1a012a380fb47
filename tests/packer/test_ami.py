"""`make ami`: what it refuses before anything costs, and the command that it gives Packer."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ami", ROOT / "tools" / "ami.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ami = _load()


def variables(*argv: str) -> dict[str, str]:
    command = ami.command(ami.arguments(["build", *argv]), "ami-1")
    pairs = [part.removeprefix("-var=").partition("=") for part in command if part.startswith("-var=")]
    return {name: value for name, _, value in pairs}


def test_plain_build_sets_no_more_than_it_must() -> None:
    found = variables()
    assert found["source_ami"] == "ami-1"
    assert found["region"] == "us-east-1"
    assert not {"encrypt", "ami_users", "ami_regions", "spot_price", "marketplace", "session_manager"} & found.keys()


def test_lists_become_json() -> None:
    found = variables("--regions", "us-west-2, eu-west-1", "--accounts", "111122223333", "--organisations", "arn:o")
    assert json.loads(found["ami_regions"]) == ["us-west-2", "eu-west-1"]
    assert json.loads(found["ami_users"]) == ["111122223333"]
    assert json.loads(found["ami_org_arns"]) == ["arn:o"]


def test_models_and_mirror_reach_ansible() -> None:
    found = variables("--models", "base", "--mirror", "https://hub.example", "--accept-licenses")
    flag, given = json.loads(found["ansible_arguments"])
    assert flag == "-e"
    wanted = {"danqing_model_groups": ["base"], "danqing_hub": "https://hub.example", "danqing_accept_licenses": True}
    assert json.loads(given) == wanted


def test_plain_ubuntu_has_another_owner_in_china() -> None:
    assert variables("--base", "noble-lean", "--region", "cn-north-1")["base_owners"] == '["837727238323"]'


def test_more_arguments_come_last_but_one() -> None:
    command = ami.command(ami.arguments(["build", "--spot", "--", "-var=volume_size=90", "-on-error=ask"]))
    assert command[-3:] == ["-var=volume_size=90", "-on-error=ask", "packer"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--marketplace", "--encrypt"], "ENCRYPT"),
        (["--marketplace", "--region", "eu-west-1"], "REGION=us-east-1"),
        (["--marketplace", "--regions", "eu-west-1"], "REGIONS"),
        (["--marketplace", "--accounts", "111122223333"], "ACCOUNTS"),
        (["--kms", "alias/a"], "ENCRYPT=1"),
        (["--session-manager"], "PROFILE"),
        (["--encrypt", "--accounts", "111122223333"], "KMS"),
        (["--base", "nope"], "noble-lean"),
        (["--region", "mars"], "mars"),
    ],
)
def test_what_cannot_work_is_refused_before_anybody_is_asked(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ami.main(["build", *argv]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("printed", "trouble"),
    [("Packer v1.6.6", "1.9.0 or newer is needed, this is v1.6.6"), ("Packer v1.9.5\n", ""), ("Packer v1.14.2", "")],
)
def test_old_packer_is_refused_with_where_to_get_one(
    printed: str, trouble: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "packer"
    program.write_text(f"#!/bin/sh\necho '{printed.strip()}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = ami.packer_trouble()
    assert found == "" if not trouble else trouble in found


def test_no_packer_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is none on PATH" in ami.packer_trouble()


def test_plan_needs_neither_credentials_nor_network() -> None:
    done = subprocess.run(
        [sys.executable, "tools/ami.py", "plan", "--base", "jammy-pytorch", "--region", "ap-northeast-1"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "packer build -var-file=packer/bases/jammy-pytorch.pkrvars.hcl" in done.stdout
    assert "cost:" in done.stdout
