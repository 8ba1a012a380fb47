"""The unit files: systemd accepts them, they are shut in, and the role installs and enables all of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from jinja2 import Environment

from tests.ansible.support import ROOT

UNITS = sorted(
    path for path in (ROOT / "systemd").iterdir() if path.suffix in (".service", ".timer", ".target", ".path")
)
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
ROLE = yaml.safe_load((ROOT / "ansible/roles/systemd/defaults/main.yml").read_text())
MOST_EXPOSED = {
    "danqing-web": 3.0,
    "danqing-engine": 5.0,
    "danqing-prefetch": 3.0,
    "danqing-warmup": 3.0,
    "danqing-compile": 5.0,
    "danqing-chores": 4.0,
    "nginx": 5.0,
}

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is missing")


def option(unit: Path, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)


def test_the_role_installs_every_unit() -> None:
    assert sorted(ROLE["systemd_units"]) == [unit.name for unit in UNITS]
    installable = {unit.name for unit in UNITS if "[Install]" in unit.read_text()}
    assert set(ROLE["systemd_enabled"]) == installable - {"danqing-idle.timer"}  # off by default


@needs_systemd
def test_systemd_accepts_them(tmp_path: Path) -> None:
    copies = []
    for unit in UNITS:
        # The programs are not on this machine: any that is will do.
        text = re.sub(r"^(Exec\w+=[-+!@]*)/\S+", r"\1/bin/true", unit.read_text(), flags=re.MULTILINE)
        copies.append(tmp_path / unit.name)
        copies[-1].write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *copies], check=False, capture_output=True, text=True
    )
    ours = [line for line in done.stderr.splitlines() if "danqing" in line or "nginx" in line]
    assert not ours, "\n".join(ours)


@needs_systemd
@pytest.mark.parametrize(("name", "most"), MOST_EXPOSED.items())
def test_they_are_shut_in(name: str, most: float) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(ROOT / f"systemd/{name}.service")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    if found is None:
        pytest.skip("this systemd cannot look at a file (before 250)")
    assert float(found[1]) <= most


def test_the_engine_reaches_the_gpu_and_no_network() -> None:
    engine = ROOT / "systemd/danqing-engine.service"
    assert "char-nvidia-uvm rw" in option(engine, "DeviceAllow")
    assert option(engine, "PrivateNetwork") == ["yes"]
    assert option(engine, "MemoryDenyWriteExecute") == []  # compiled kernels are written and run
    assert any("secrets" in path for path in option(engine, "InaccessiblePaths"))


def test_web_and_engine_meet_at_one_socket() -> None:
    environment = (ROOT / "ansible/roles/base/templates/danqing.env.j2").read_text()
    socket = re.search(r"^DANQING_ENGINE_SOCKET=(.*)$", environment, re.MULTILINE)
    assert socket
    assert f"--socket {socket[1]} " in option(ROOT / "systemd/danqing-engine.service", "ExecStart")[0]
    assert "DANQING_ENGINE_EXTERNAL=true" in environment
    assert socket[1].startswith("/run/" + option(ROOT / "systemd/danqing-engine.service", "RuntimeDirectory")[0])


def test_the_environment_is_settings_that_exist() -> None:
    from danqing.app import ROWS

    names = {row.variable for row in ROWS}
    environment = (ROOT / "ansible/roles/base/templates/danqing.env.j2").read_text()
    for name in re.findall(r"^(DANQING_[A-Z_]+)=", environment, re.MULTILINE):
        assert name in names or name.startswith("DANQING_BOX_"), name


def test_a_hub_that_the_image_has_not_can_be_named_later() -> None:
    """What stands in the environment, be it nothing, goes over what administrators set on the page."""
    text = (ROOT / "ansible/roles/base/templates/danqing.env.j2").read_text()
    template = Environment(trim_blocks=True, autoescape=True).from_string(text)
    given = {"danqing_settings": {}, "danqing_model_bucket": ""}
    assert "MODEL" not in template.render(**given, danqing_hub="")
    assert "\nDANQING_MODEL_HUB=https://hub\nDANQING_BOX_TLS=" in template.render(**given, danqing_hub="https://hub")


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.stem)
def test_commands_exist(unit: Path) -> None:
    import typer.main

    from danqing.box.cli import app

    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for line in option(unit, "Exec(?:Start|Condition)"):
        if isinstance(line, tuple):
            line = line[-1]
        if " box " in line:
            assert line.split(" box ")[1].split()[0] in commands, line


def test_everything_that_must_run_comes_back() -> None:
    for name in ("danqing-web", "danqing-engine", "nginx"):
        unit = ROOT / f"systemd/{name}.service"
        assert option(unit, "Restart") == ["always"]
        assert option(unit, "StartLimitIntervalSec") == ["0"]


@pytest.mark.parametrize(
    "unit", [unit for unit in UNITS if unit.suffix in (".path", ".timer")], ids=lambda unit: unit.name
)
def test_what_starts_services_does_not_wait_for_one(unit: Path) -> None:
    """Paths and timers come before every ordinary service; one that waits for a service is an ordering cycle, in which
    systemd drops a unit at random."""
    lines = unit.read_text("utf-8").splitlines()
    waits = any(line.startswith("After=") and ".service" in line for line in lines)
    assert not waits or "DefaultDependencies=no" in lines
