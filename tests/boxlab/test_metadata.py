"""The lab's metadata service speaks IMDSv2 as AWS describes it, and nothing older."""

from __future__ import annotations

import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from boxlab.metadata import Metadata

TREE = {
    "meta-data": {
        "instance-id": "i-1",
        "placement": {"region": "us-east-1"},
        "public-keys": {".listing": "0=key", "0": {"openssh-key": "ssh-ed25519 AAAA key"}},
    },
    "user-data": "#cloud-config\n",
}
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def address() -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    service = Metadata(listener, {"127.0.0.1": TREE}.get)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    service.server.shutdown()
    service.server.server_close()


def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with OPENER.open(urllib.request.Request(url, method=method, headers=named), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def token(address: str) -> str:
    status, text = ask(f"{address}/latest/api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds="60")
    assert status == 200
    return text


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/latest/meta-data/instance-id", "i-1"),
        ("/2021-03-23/meta-data/placement/region", "us-east-1"),
        ("/latest/meta-data/", "instance-id\nplacement/\npublic-keys/"),
        ("/latest/meta-data/public-keys/", "0=key"),
        ("/latest/meta-data/public-keys/0/openssh-key", "ssh-ed25519 AAAA key"),
        ("/latest/user-data", "#cloud-config\n"),
    ],
)
def test_with_a_token_it_answers(address: str, path: str, text: str) -> None:
    assert ask(address + path, X_aws_ec2_metadata_token=token(address)) == (200, text)


def test_without_a_token_or_with_a_wrong_one_it_does_not(address: str) -> None:
    assert ask(f"{address}/latest/meta-data/instance-id")[0] == 401
    assert ask(f"{address}/latest/meta-data/instance-id", X_aws_ec2_metadata_token="x")[0] == 401


def test_what_is_not_there_is_404(address: str) -> None:
    assert ask(f"{address}/latest/meta-data/spot/instance-action", X_aws_ec2_metadata_token=token(address))[0] == 404


@pytest.mark.parametrize("lifetime", ["", "0", "21601", "soon"])
def test_token_needs_a_lifetime_in_bounds(address: str, lifetime: str) -> None:
    assert ask(f"{address}/latest/api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds=lifetime)[0] == 400


def test_no_token_through_a_proxy(address: str) -> None:
    headers = {"X_aws_ec2_metadata_token_ttl_seconds": "60", "X_Forwarded_For": "10.0.0.1"}
    assert ask(f"{address}/latest/api/token", "PUT", **headers)[0] == 403
