"""The layer over the emulated AWS: which actions reach the machines, and what it adds to requests."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from boxlab.cloud import Layer


class Fleet:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *told: self.told.append((name, *told))


class Inner:
    """An AWS that answers the same to everything."""

    def __init__(self, status: str, body: str) -> None:
        self.status, self.body, self.seen = status, body, b""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.seen = environ["wsgi.input"].read()
        start_response(self.status, [])
        return [self.body.encode()]


def call(form: dict[str, str], body: str, status: str = "200 OK") -> tuple[list[tuple[Any, ...]], dict[str, list[str]]]:
    fleet, inner = Fleet(), Inner(status, body)
    sent = urlencode(form).encode()
    environ = {
        "CONTENT_TYPE": "application/x-www-form-urlencoded; charset=utf-8",
        "CONTENT_LENGTH": str(len(sent)),
        "wsgi.input": io.BytesIO(sent),
        "HTTP_AUTHORIZATION": "AWS4-HMAC-SHA256 Credential=test/20261124/eu-west-1/ec2/aws4_request, ...",
        "PATH_INFO": "/",
    }
    list(Layer(inner, fleet)(environ, lambda *_: None))  # type: ignore[arg-type]
    return fleet.told, parse_qs(inner.seen.decode())


@pytest.mark.parametrize(
    ("form", "body", "told"),
    [
        ({"Action": "RunInstances"}, "<instanceId>i-0a</instanceId>", [("launch", "eu-west-1", "i-0a")]),
        (
            {"Action": "StopInstances"},
            "<instanceId>i-0a</instanceId><instanceId>i-0b</instanceId>",
            [("stop", "i-0a"), ("stop", "i-0b")],
        ),
        ({"Action": "TerminateInstances"}, "<instanceId>i-0a</instanceId>", [("terminate", "i-0a")]),
        ({"Action": "RebootInstances", "InstanceId.1": "i-0a"}, "<return>true</return>", [("reboot", "i-0a")]),
        (
            {"Action": "CreateImage", "InstanceId": "i-0a"},
            "<imageId>ami-1</imageId>",
            [("create_image", "eu-west-1", "i-0a", "ami-1")],
        ),
        (
            {"Action": "AttachVolume", "InstanceId": "i-0a", "VolumeId": "vol-1", "Device": "/dev/sdf"},
            "",
            [("attach", "i-0a", "vol-1", "/dev/sdf")],
        ),
        ({"Action": "DescribeInstances"}, "<instanceId>i-0a</instanceId>", []),
    ],
)
def test_actions_reach_the_machines(form: dict[str, str], body: str, told: list[tuple[Any, ...]]) -> None:
    assert call(form, body)[0] == told


def test_what_aws_refused_does_not() -> None:
    assert call({"Action": "TerminateInstances"}, "<instanceId>i-0a</instanceId>", "400 Bad Request")[0] == []


def test_a_disk_without_a_size_gets_one_and_others_are_left() -> None:
    form = {
        "Action": "RunInstances",
        "BlockDeviceMapping.1.Ebs.VolumeType": "gp3",
        "BlockDeviceMapping.2.Ebs.VolumeSize": "7",
        "BlockDeviceMapping.3.Ebs.SnapshotId": "snap-1",
    }
    seen = call(form, "")[1]
    assert seen["BlockDeviceMapping.1.Ebs.VolumeSize"] == ["20"]
    assert seen["BlockDeviceMapping.2.Ebs.VolumeSize"] == ["7"]
    assert "BlockDeviceMapping.3.Ebs.VolumeSize" not in seen
