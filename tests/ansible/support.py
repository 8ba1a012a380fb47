"""Runs the playbook in check mode on machines that are not there: their facts are recorded, nothing is changed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FACTS = Path(__file__).with_name("facts")


def recorded(system: str, **other: object) -> dict[str, object]:
    """The facts of a distribution, some of them changed."""
    return {**json.loads((FACTS / f"{system}.json").read_text()), "_ansible_facts_gathered": True, **other}


@dataclass
class Played:
    """What a run said."""

    status: int
    text: str

    def failed(self, host: str) -> bool:
        return bool(re.search(rf"^{host} .*failed=[1-9]", self.text, re.MULTILINE))

    def lines_of(self, task: str) -> str:
        """The lines under a task's name."""
        found = re.search(
            rf"^TASK \[{re.escape(task)}\] \**\n(.*?)(?=^TASK|^PLAY|^RUNNING|\Z)", self.text, re.MULTILINE | re.DOTALL
        )
        return found[1] if found else ""


def play(
    folder: Path, hosts: dict[str, dict[str, object]], variables: dict[str, dict[str, object]], *options: str
) -> Played:
    """`hosts`: name to facts; `variables`: name to variables of that host."""
    cache = folder / "facts"
    cache.mkdir()
    for host, facts in hosts.items():
        # As Ansible's own cache writes it, its version in the name.
        (cache / f"s1_{host}").write_text(json.dumps({"__payload__": json.dumps(facts)}))
    wheel = folder / "danqing-0-py3-none-any.whl"
    wheel.write_bytes(b"")
    # Of each host: playbook's group_vars win over an inventory's groups.
    every = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "/usr/bin/python3",
        "danqing_wheel": str(wheel),
        "danqing_apt_update": False,
    }
    inventory = folder / "inventory.json"
    rows = {host: {**every, **variables.get(host, {})} for host in hosts}
    inventory.write_text(json.dumps({"all": {"hosts": rows}}))
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible/ansible.cfg"),
        "ANSIBLE_CACHE_PLUGIN": "jsonfile",
        "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(cache),
        "ANSIBLE_GATHERING": "smart",
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "--check", "-i", str(inventory), *options]
    done = subprocess.run(
        [*command, str(ROOT / "ansible/site.yml")],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    return Played(done.returncode, done.stdout)
