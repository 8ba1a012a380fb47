"""The bake: `packer build` with the lab's base, against the lab's AWS."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from . import wheels
from .disks import Image, Images
from .host import ROOT, LabError, run
from .lab import REGION, WORK, Kept, Lab, all_labs, cache
from .template import old_template, var_file

BASE = "debian-lab"
INPUTS = ("ansible", "app", "nginx", "packer", "systemd", "constraints.txt", "pyproject.toml", "LICENSE", "NOTICE")
Say = Callable[[str], None]


def bake(lab: Lab, say: Say, **others: str) -> str:
    """Build the image and return its id; what Packer and Ansible say goes to `lab.folder`/packer.log and, shortened, to `say`.

    Args:
        others: more of the template's variables.

    Raises:
        LabError: Packer failed; the message has the end of its log.
    """
    wheel = wheels.danqing(lab.folder / "wheel")
    settings = lab.folder / "ansible.json"
    settings.write_text(json.dumps(ansible_settings(wheel)))
    template = old_template(lab.folder / "packer")
    arguments = ["-e", f"@{settings}"]
    variables = {
        "endpoint": lab.inner_endpoint,
        "region": REGION,
        "version": _version(),
        "revision": revision(),
        "out": str(lab.folder / "out"),
        "ansible_arguments": json.dumps(arguments),
        **others,
    }
    (lab.folder / "out").mkdir(exist_ok=True)
    command = ["ip", "netns", "exec", lab.namespace, "packer", "build", "-color=false", f"-var-file={var_file(BASE)}"]
    command += [f"-var={name}={value}" for name, value in variables.items()]
    _packer([*command, str(template)], lab, say)
    return built(lab.folder / "out")[0]


def built(out: Path) -> tuple[str, str]:
    """Id and name of the image whose manifest lies in `out`."""
    build = json.loads((out / "manifest.json").read_text())["builds"][-1]
    return str(build["artifact_id"].split(":")[1]), str(build["custom_data"]["name"])


def keep(lab: Lab, inputs: str) -> Path:
    """Move the image just built, and what came out beside it, into the cache; older ones that no lab uses go."""
    image, name = built(lab.folder / "out")
    with cache() as shared:
        folder = shared / f"image-{image}"
        folder.mkdir()
        known = Images(lab.folder / "images")
        layer = folder / "layer"
        known.get(image).layers[0].rename(layer)
        known.add(Image(image, (layer, *known.get(image).layers[1:])))
        shutil.copytree(lab.folder / "out", folder / "out")
        row = {"inputs": inputs, "image": image, "name": name, "base": str(lab.base), "time": time.time()}
        (folder / "image.json").write_text(json.dumps(row, indent=1))
        used = "".join(path.read_text() for other in all_labs() for path in (other / "images").glob("images.json"))
        for old in shared.glob("image-*"):
            if str(old) not in used:
                shutil.rmtree(old, ignore_errors=True)
    return folder


def newest() -> Kept | None:
    """The latest image in the cache, whatever it was made of."""
    rows = [json.loads(path.read_text()) for path in (WORK / "cache").glob("image-*/image.json")]
    if not rows:
        return None
    row = max(rows, key=lambda row: row["time"])
    folder = WORK / "cache" / f"image-{row['image']}"
    return Kept(row["image"], row["name"], folder / "layer", Path(row["base"]))


def kept(base: Path, inputs: str) -> Kept | None:
    """The image in the cache, if it was made of these inputs on that base."""
    found = newest()
    if found is None or found.base != base:
        return None
    return found if json.loads((found.layer.parent / "image.json").read_text())["inputs"] == inputs else None


def inputs() -> str:
    """A digest of everything in the checkout that the image is made of."""
    digest = hashlib.sha256()
    listing = run("git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", *INPUTS, check=False)
    names = listing.stdout.splitlines() if listing.returncode == 0 else []
    paths = [ROOT / name for name in names] or [path for name in INPUTS for path in (ROOT / name).rglob("*")]
    for path in sorted(path for path in paths if path.is_file() and "__pycache__" not in path.parts):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def ansible_settings(wheel: Path) -> dict[str, object]:
    """What differs from a bake on AWS: packages come from the wheelhouse, torch from there too."""
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/opt/wheelhouse", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return {"danqing_wheel": str(wheel), "danqing_pip_environment": pip, "danqing_torch_index": ""}


def _version() -> str:
    done = run(sys.executable, "-c", "import danqing; print(danqing.__version__)", cwd=ROOT)
    return str(done.stdout.strip())


def revision() -> str:
    """The checkout's commit, shortened; `unknown` outside of git."""
    done = run("git", "-C", ROOT, "rev-parse", "--short=12", "HEAD", check=False)
    return str(done.stdout.strip()) if done.returncode == 0 else "unknown"


def _packer(command: list[str], lab: Lab, say: Say) -> None:
    environment = lab.environment()
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "CHECKPOINT_DISABLE": "1",
        "PACKER_LOG": "1",
        "PACKER_LOG_PATH": str(lab.folder / "packer-debug.log"),
        "PACKER_CACHE_DIR": str(lab.folder / "packer-cache"),
        "ANSIBLE_LOCAL_TEMP": str(lab.folder / "ansible-tmp"),
        "TMPDIR": str(lab.folder),
    }
    log = lab.folder / "packer.log"
    with (
        log.open("w") as kept,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as packer,
    ):
        assert packer.stdout
        for line in packer.stdout:
            kept.write(line)
            kept.flush()
            _tell(line, say)
    if packer.returncode:
        raise LabError(f"packer build failed (all of it: {log}):\n{log.read_text()[-4000:]}")


def _tell(line: str, say: Say) -> None:
    """Ansible's tasks and Packer's own steps, without the noise between."""
    text = line.strip().removeprefix("amazon-ebs.danqing:").strip().removeprefix("==> amazon-ebs.danqing:").strip()
    if text.startswith("TASK ["):
        say("  " + text.split("[", 1)[1].rstrip("* ").rstrip("]"))
    elif line.startswith("==>"):
        say(text)
