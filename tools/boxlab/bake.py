"""The bake: `packer build` with the lab's base, against the lab's AWS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from . import wheels
from .host import ROOT, LabError, run
from .lab import REGION, Lab
from .template import old_template, var_file

BASE = "debian-lab"
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
    manifest = json.loads((lab.folder / "out" / "manifest.json").read_text())
    return str(manifest["builds"][-1]["artifact_id"].split(":")[1])


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
