"""The image's template: Packer 1.6.6 reads it cut, python-hcl2 whole; what only newer Packers know is in the plugin's own table.

`amazon_ebs_1.8.2.json` lists the options that the plugin's release 1.8.2 declares for `amazon-ebs`, with their types.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from boxlab import template  # noqa: E402
from boxlab.host import LabError  # noqa: E402

from danqing.cloud import bases  # noqa: E402

hcl2 = pytest.importorskip("hcl2", reason="pip install -e '.[box]'")

OPTIONS: dict[str, Any] = json.loads(Path(__file__).with_name("amazon_ebs_1.8.2.json").read_text())
ANSIBLE = shutil.which("ansible-playbook", path=str(Path(sys.executable).parent))
PACKER_OLD = (
    shutil.which("packer") and "v1.6.6" in subprocess.run(["packer", "version"], capture_output=True, text=True).stdout
)


def plain(value: Any) -> Any:
    """python-hcl2 keeps the quotes of strings and of labels, and marks blocks; both go."""
    if isinstance(value, dict):
        return {plain(name): plain(inner) for name, inner in value.items() if not name.startswith("__")}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value


def parsed(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = plain(hcl2.loads(path.read_text()))
    return found


@pytest.fixture(scope="module")
def source() -> dict[str, Any]:
    """The `amazon-ebs` block, whole."""
    found: dict[str, Any] = parsed(template.PACKER / "danqing.pkr.hcl")["source"][0]["amazon-ebs"]["danqing"]
    return found


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template.old_template(tmp_path_factory.mktemp("packer") / "cut")


def test_every_option_is_one_of_the_plugins(source: dict[str, Any]) -> None:
    assert source.keys() <= OPTIONS.keys()


@pytest.mark.parametrize(
    "block",
    [
        "source_ami_filter",
        "metadata_options",
        "launch_block_device_mappings",
        "deregistration_protection",
        "aws_polling",
    ],
)
def test_every_option_inside_a_block_is_one_of_the_plugins(source: dict[str, Any], block: str) -> None:
    inner = source[block]
    for found in inner if isinstance(inner, list) else [inner]:
        assert found
        assert found.keys() <= OPTIONS[block].keys()


def test_no_other_blocks(source: dict[str, Any]) -> None:
    blocks = {
        name for name, value in source.items() if isinstance(value, list) and value and isinstance(value[0], dict)
    }
    known = {"source_ami_filter", "metadata_options", "launch_block_device_mappings", "deregistration_protection"}
    assert blocks == {*known, "aws_polling"}


def test_builder_and_image_demand_imdsv2(source: dict[str, Any]) -> None:
    (options,) = source["metadata_options"]
    assert options["http_tokens"] == "required"
    assert options["http_put_response_hop_limit"] == 1
    assert source["imds_support"] == "v2.0"


def test_disk_is_gp3_with_its_throughput(source: dict[str, Any]) -> None:
    (disk,) = source["launch_block_device_mappings"]
    assert disk["volume_type"] == "gp3"
    assert "volume_throughput" in disk["throughput"]


def test_every_variable_used_is_declared_and_every_one_declared_is_used() -> None:
    text = (template.PACKER / "danqing.pkr.hcl").read_text()
    rows = parsed(template.PACKER / "variables.pkr.hcl")["variable"]
    declared = {name for row in rows for name in row}
    assert set(re.findall(r"\bvar\.(\w+)", text)) == declared
    assert all(inner.get("description") for row in rows for inner in row.values())


def test_plugins_are_pinned() -> None:
    (block,) = parsed(template.PACKER / "plugins.pkr.hcl")["packer"]
    (plugins,) = block["required_plugins"]
    assert {name: row["version"] for name, row in plugins.items()} == {"amazon": "= 1.8.2", "ansible": "= 1.1.4"}


def test_cut_takes_what_stands_between_the_marks() -> None:
    assert template.cut("a\n  # modern: begin\n  b\n  # modern: end\nc\n") == "a\nc\n"


def test_cut_refuses_a_mark_without_partner() -> None:
    with pytest.raises(LabError, match="partner"):
        template.cut("# modern: begin\nb\n")


def test_var_file_of_an_unknown_base_names_the_known_ones() -> None:
    with pytest.raises(LabError, match="noble-lean"):
        template.var_file("arm")


def test_there_is_a_var_file_for_every_base_that_the_cloud_room_knows() -> None:
    assert set(template.bases()) == {base.name for base in bases.BASES} | {"debian-lab"}


@pytest.mark.parametrize("base", bases.BASES, ids=lambda base: base.name)
def test_var_file_says_what_the_cloud_room_says(base: bases.Base) -> None:
    row = parsed(template.var_file(base.name))
    assert row["base"] == base.name
    assert row["base_name"] == base.pattern
    assert row["base_owners"] == [base.owner]
    assert row.get("ssh_username", "ubuntu") == base.user
    assert row["volume_size"] == base.root_gb


@pytest.mark.skipif(not PACKER_OLD, reason="needs Packer 1.6.6, Debian's")
@pytest.mark.skipif(not ANSIBLE, reason="needs ansible-playbook: pip install -e '.[box]'")
@pytest.mark.parametrize("base", template.bases())
def test_old_packer_validates_every_base(base: str, old: Path, tmp_path: Path) -> None:
    command = [
        "packer",
        "validate",
        f"-var-file={template.var_file(base)}",
        f"-var=ansible_command={ANSIBLE}",
        str(old),
    ]
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1", "PACKER_CACHE_DIR": str(tmp_path)}
    # no look at the account: that is what `emulated` leaves out
    done = subprocess.run(
        [*command[:2], "-var=emulated=true", *command[2:]],
        cwd=ROOT,
        env={**environment, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not PACKER_OLD, reason="needs Packer 1.6.6, Debian's")
def test_files_are_in_packers_own_format() -> None:
    for folder in ("packer", "packer/bases"):
        done = subprocess.run(["packer", "fmt", "-check", folder], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
