"""The CloudFormation template: cfn-lint finds nothing, and it says the same as `danqing cloud launch`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from cfnlint.decode import decode_str

from danqing.box.metadata import TOLD
from danqing.cloud import assets, facts, images, volumes

TEMPLATE = Path(assets.__file__).with_name("danqing.yaml")
LINT = str(Path(sys.executable).with_name("cfn-lint"))


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    found, problems = decode_str(TEMPLATE.read_text("utf-8"))
    assert not problems
    return dict(found)


@pytest.mark.parametrize("region", ["us-east-1", "cn-north-1"])
def test_cfn_lint_finds_nothing(region: str) -> None:
    command = [LINT, "--regions", region, "--non-zero-exit-code", "warning", str(TEMPLATE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_cfn_lint_would_find_something(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(TEMPLATE.read_text("utf-8").replace("HttpTokens: required", "HttpTokens: maybe"))
    assert subprocess.run([LINT, str(wrong)], capture_output=True).returncode != 0


def test_it_offers_the_same_machines(template: dict[str, Any]) -> None:
    kinds = template["Parameters"]["InstanceType"]
    assert kinds["AllowedValues"] == [row.name for row in facts.MACHINES]
    assert kinds["Default"] == facts.DEFAULT_TYPE


def test_it_launches_as_the_command_does(template: dict[str, Any]) -> None:
    data = template["Resources"]["Template"]["Properties"]["LaunchTemplateData"]
    assert data["MetadataOptions"]["HttpTokens"] == "required"
    assert data["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
    rate = template["Parameters"]["InitializationRate"]
    assert (rate["MinValue"], rate["MaxValue"]) == facts.INIT_RATES
    assert template["Parameters"]["ImageId"]["Default"] == images.PARAMETER
    assert template["Resources"]["Attachment"]["Properties"]["Device"] == volumes.DEVICE
    volume = template["Resources"]["Data"]
    assert volume["Properties"]["Encrypted"] is True
    assert (volume["DeletionPolicy"], volume["UpdateReplacePolicy"]) == ("Retain", "Retain")
    tags = {tag["Key"] for tag in volume["Properties"]["Tags"]}
    assert volumes.TAG in tags


def test_the_machine_understands_what_it_is_told(template: dict[str, Any]) -> None:
    text = template["Resources"]["Box"]["Properties"]["UserData"]["Fn::Base64"]["Fn::Sub"].replace(
        "${IdleMinutes}", "30"
    )
    assert yaml.safe_load(text) is None, "cloud-init must find nothing to do"
    line = next(line for line in text.splitlines() if line.startswith(TOLD))
    assert json.loads(line.removeprefix(TOLD)) == {"data_volume": "any", "idle_minutes": 30}


def test_only_the_page_is_open_to_whom_it_is_allowed(template: dict[str, Any]) -> None:
    text = json.dumps(template["Resources"]["Firewall"])
    assert "0.0.0.0/0" not in text
    assert sorted(map(int, re.findall(r'"FromPort": (\d+)', text))) == [22, 80, 443]
