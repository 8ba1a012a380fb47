"""The log of the services, and a bundle for whoever helps: logs, versions, settings, no secrets."""

from __future__ import annotations

import io
import json
import platform
import re
import subprocess
import tarfile
import time
from collections.abc import Iterator
from importlib import metadata as packages
from pathlib import Path
from typing import Any

from danqing import __version__
from danqing.box import doctor, gpu, status, tools
from danqing.box.local import Client, data_folder
from danqing.box.places import Places

UNITS = ("danqing-*", "nginx")
LINES = 200
BUNDLE_LINES = 5000
SECRET = re.compile(
    r"""(?ix) (?P<key> ["']?(?:password|passwd|secret|token|authorization|cookie|api[_-]?key|session)\w*["']? \s*[:=]\s* )
        (?P<value> "[^"]*" | '[^']*' | (?:(?:basic|bearer)\s+)? [^\s,;}"']+ )"""
)
"""A name that says secret, and its value, in the ways that logs and settings write it."""
ACCESS_KEY = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")
PACKAGES = ("torch", "diffusers", "transformers", "gradio", "numpy", "safetensors", "fastapi", "starlette", "boto3")


def follow(lines: int, keep: bool) -> int:
    """The journal of the services, passed through; the exit code of journalctl."""
    units = [word for unit in UNITS for word in ("-u", unit)]
    command = ["journalctl", *units, "-n", str(lines), "--no-pager", *(["-f"] if keep else [])]
    return subprocess.call(command)


def clean(text: str) -> str:
    """The text with the values of secrets taken out."""
    text = SECRET.sub(lambda match: match["key"] + "***", text)
    return ACCESS_KEY.sub("***", text)


def bundle(places: Places, client: Client, path: Path) -> None:
    """Write a .tar.gz. Every file in it went through `clean`; passwords, sessions, prompts and pictures are not read at all."""
    with tarfile.open(path, "w:gz") as archive:
        for name, text in _files(places, client):
            content = clean(text).encode("utf-8", "replace")
            info = tarfile.TarInfo(f"danqing-bundle/{name}")
            info.size, info.mtime, info.mode = len(content), int(time.time()), 0o600
            archive.addfile(info, io.BytesIO(content))
    path.chmod(0o600)


def _files(places: Places, client: Client) -> Iterator[tuple[str, str]]:
    yield "versions.json", json.dumps(versions(places), indent=1, ensure_ascii=False)
    yield "gpu.json", json.dumps(gpu.preflight(places).as_dict(), indent=1)
    yield "status.json", json.dumps(status.status(places, client), indent=1, ensure_ascii=False)
    findings = doctor.examine(places, client)
    yield "doctor.txt", "".join(f"{row.state:<8} {row.check:<8} {row.en}\n" for row in findings)
    yield "metrics.txt", client.get("/metrics").text
    yield "settings.txt", _settings(places)
    for name in ("boot-report.json", "boot-report.last.json", "firstboot.json"):
        yield name, _text(places.state / name)
    yield "environment.txt", _text(places.root / "etc/danqing/danqing.env") + _text(places.local_env)
    units = [word for unit in UNITS for word in ("-u", unit)]
    yield "journal.txt", tools.quiet("journalctl", *units, "-n", str(BUNDLE_LINES), "--no-pager", "-o", "short-iso")
    yield "kernel.txt", tools.quiet("journalctl", "-k", "-n", "500", "--no-pager")
    yield "units.txt", tools.quiet("systemctl", "list-units", "--all", "--no-pager", "danqing*", "nginx*")
    yield "disks.txt", tools.quiet("df", "-h") + tools.quiet("lsblk", "-f")
    yield "nvidia-smi.txt", tools.quiet("nvidia-smi")


def versions(places: Places) -> dict[str, Any]:
    """Of Danqing, Python, the packages that matter, the system and the image."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = packages.version(name)
        except packages.PackageNotFoundError:
            continue
    image = _text(places.image)
    return {
        "danqing": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "system": _text(places.root / "etc/os-release").split("\n")[0],
        "packages": found,
        "image": json.loads(image) if image.startswith("{") else {},
    }


def _settings(places: Places) -> str:
    from danqing.app import load_settings
    from danqing.errors import DanqingError

    try:
        values = load_settings(data_folder(places)).values()
    except DanqingError as error:
        return error.text("en")
    return "".join(f"{name} = {value!r}\n" for name, value in sorted(values.items()))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
