"""What the validator says of images: a clean one passes, and each thing that must not be in one is named."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.ansible.support import ROOT

VALIDATE = ROOT / "ansible/roles/cleanup/files/validate.sh"


def write(path: Path, text: str = "x\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The least that a clean image has."""
    root = tmp_path / "image"
    for path in ("opt/danqing/venv/bin/danqing", "opt/danqing/share/torch-build.json", "opt/danqing/www/waiting.html"):
        write(root / path)
    write(root / "opt/danqing/share/licenses/README.txt")
    write(root / "opt/danqing/share/image.json", '{\n    "end_of_life": "2999-12-31"\n}\n')
    write(root / "opt/danqing/venv/lib/python3.11/site-packages/danqing/__pycache__/cli.cpython-311.pyc")
    write(root / "etc/danqing/danqing.env", "LANG=zh_CN.UTF-8\n")
    write(root / "etc/ssh/sshd_config.d/00-danqing.conf", "PasswordAuthentication no\nPermitRootLogin no\n")
    write(root / "etc/shadow", "root:!:1::::::\ndanqing:!:1::::::\n")
    write(root / "etc/machine-id", "")
    write(root / "usr/bin/sudo")
    (root / "usr/bin/sudo").chmod(0o755)
    write(root / "home/admin/.ssh/authorized_keys", "ssh-ed25519 AAAAC3NzaBuilder packer\n")
    (root / "var/log").mkdir(parents=True)
    (root / "var/cache/apt").mkdir(parents=True)
    wants = root / "etc/systemd/system"
    for unit in ("multi-user.target.wants/danqing.target", "multi-user.target.wants/nginx.service"):
        (wants / unit).parent.mkdir(parents=True, exist_ok=True)
        (wants / unit).symlink_to("/etc/systemd/system/x")
    for name in ("firstboot", "prefetch", "web", "engine", "warmup"):
        link = wants / f"danqing.target.wants/danqing-{name}.service"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("/etc/systemd/system/x")
    return root


def validate(image: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(VALIDATE)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "ROOT": str(image), **environment},
    )


def test_a_clean_image_passes(image: Path) -> None:
    done = validate(image, MARKETPLACE="1")
    assert done.returncode == 0, done.stderr
    assert "clean" in done.stdout


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("etc/ssh/ssh_host_ed25519_key", "x"),
        ("var/lib/systemd/random-seed", "x"),
        ("root/danqing-password", "hunter2\n"),
        ("var/lib/danqing/firstboot.json", "{}"),
        ("var/lib/danqing/data/secrets/admin.hash", "x"),
        ("var/lib/danqing/data/danqing.db", "x"),
        ("home/admin/.bash_history", "ls\n"),
        ("home/admin/.aws/credentials", "x"),
        ("root/.ssh/id_ed25519", "x"),
        ("etc/danqing/key.pem", "-----BEGIN " + "PRIVATE KEY-----\n"),
        ("srv/notes", "AKIA" + "ABCDEFGHIJKLMNOP\n"),
        ("etc/danqing/danqing.env", "DANQING_PASSWORD=x\n"),
        ("var/lib/apt/lists/deb_main", "x"),
        ("var/cache/apt/archives/x.deb", "x"),
        ("etc/pip.conf", "x"),
        ("etc/shadow", "root:!:1::::::\nadmin:$6$abc$def:1::::::\n"),
        ("etc/shadow", "root::1::::::\n"),
        ("etc/ssh/sshd_config.d/00-danqing.conf", "PasswordAuthentication yes\n"),
        ("home/admin/.ssh/authorized_keys", "ssh-ed25519 AAAAone a\nssh-ed25519 AAAAtwo b\n"),
        ("var/crash/core", "x"),
    ],
)
def test_what_must_not_be_there_is_named(image: Path, path: str, text: str) -> None:
    write(image / path, text)
    done = validate(image)
    assert done.returncode == 1
    said = done.stderr
    assert any(part in said for part in (*Path(path).parts[-2:], "password", "packages", "random-seed")), said


@pytest.mark.parametrize(
    "gone",
    [
        "opt/danqing/venv/bin/danqing",
        "etc/systemd/system/multi-user.target.wants/danqing.target",
        "etc/systemd/system/danqing.target.wants/danqing-engine.service",
        "opt/danqing/venv/lib/python3.11/site-packages/danqing/__pycache__/cli.cpython-311.pyc",
        "opt/danqing/share/licenses/README.txt",
    ],
)
def test_what_must_be_there_is_missed(image: Path, gone: str) -> None:
    (image / gone).unlink()
    assert validate(image).returncode == 1


def test_a_sealed_image_has_not_even_the_builders_key(image: Path) -> None:
    assert "authorized_keys" in validate(image, SEALED="1").stderr


def test_marketplace_takes_no_old_system(image: Path) -> None:
    write(image / "opt/danqing/share/image.json", '{\n    "end_of_life": "2025-05-31"\n}\n')
    assert validate(image).returncode == 0
    assert "end of life (2025-05-31)" in validate(image, MARKETPLACE="1").stderr


def test_clean_takes_out_what_validate_asserts() -> None:
    clean, validated = (VALIDATE.with_name(name).read_text() for name in ("clean.sh", "validate.sh"))
    for what in (
        "machine-id",
        "ssh_host_",
        "random-seed",
        "danqing-password",
        "secrets",
        "apt/lists",
        ".aws",
        "local.env",
    ):
        assert what in clean
        assert what in validated
