"""The roles once more, on a box that they made: nothing changes."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
from boxlab import bake
from boxlab.host import run

from tests.box.conftest import ROOT, Box

pytestmark = pytest.mark.skipif(
    not os.environ.get("DANQING_BOX_LONG"), reason="takes minutes of two cores: DANQING_BOX_LONG=1 runs it"
)

NAMES = {"version": "version", "revision": "revision", "base": "from"}


def test_second_run_of_the_roles_changes_nothing(second: Box, tmp_path: Path) -> None:
    wheels = sorted((second.made.folder / "wheel").glob("*.whl"))
    settings = bake.ansible_settings(wheels[0] if wheels else tmp_path / "none.whl")
    told = json.loads(second.sh("cat /opt/danqing/share/image.json"))
    settings |= {"danqing_cleanup": False, "danqing_apt_update": False}
    # What Packer told the first run: it stands in the image.
    settings |= {f"danqing_{name}": told[key] for name, key in NAMES.items()}
    inventory = tmp_path / "hosts"
    inventory.write_text(
        f"box ansible_host={second.row['public']} ansible_user=admin ansible_ssh_private_key_file={second.made.key}\n"
    )
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    environment = {
        **os.environ,
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_SSH_COMMON_ARGS": options,
        "ANSIBLE_NOCOLOR": "1",
    }
    environment["ANSIBLE_LOCAL_TEMP"] = str(tmp_path / "ansible")
    done = run(
        Path(sys.executable).parent / "ansible-playbook",
        *("-i", inventory, "-e", json.dumps(settings), ROOT / "ansible/site.yml"),
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    recap = re.search(r"ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", done.stdout)
    assert recap, done.stdout[-3000:]
    tasks = re.split(r"^TASK \[", done.stdout, flags=re.MULTILINE)
    changed = [task.partition("]")[0] for task in tasks if re.search(r"^changed: ", task, re.MULTILINE)]
    assert recap.groups()[1:] == ("0", "0", "0"), f"{recap[0]} {changed}\n{done.stdout[-2000:]}"
    assert int(recap[1]) > 30
