"""A real HTTP server that plays AWS (moto), with a switch for errors that it never gives by itself."""

from __future__ import annotations

import datetime
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from danqing.cloud import waiting
from danqing.cloud.clients import Cloud

REGION = "us-east-1"
ERROR = (
    "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
    "<RequestID>1</RequestID></Response>"
)
IMAGES = Path(__file__).with_name("amis.json")


@dataclass
class Emulator:
    """The server's address, what it was asked, and the errors that it gives instead of answering."""

    url: str
    page: str = ""
    """host:port that every machine's public address is said to be; "" leaves them alone."""
    errors: dict[str, list[tuple[str, str, int]]] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)

    def fail(self, action: str, code: str, message: str = "as told", times: int = 1000) -> None:
        """Answer `action` (RunInstances, GetParameters …) with this error, so many times."""
        self.errors[action] = [(code, message, 400)] * times

    def requests(self, action: str) -> list[dict[str, str]]:
        return [form for form in self.asked if form.get("Action") == action]


class Layer:
    """WSGI around moto: notes the EC2 calls and answers some with an error."""

    def __init__(self, inner: Callable[..., Iterable[bytes]]) -> None:
        self.inner = inner
        self.emulator = Emulator("")

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        from tools.boxlab.cloud import _form

        form = _form(environ)
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        action = form.get("Action") or target.rpartition(".")[2]
        self.emulator.asked.append({**form, "Action": action})
        waiting_errors = self.emulator.errors.get(action)
        if not waiting_errors:
            return self._answer(environ, start_response, action)
        code, message, status = waiting_errors.pop(0)
        if target:
            body, kind = json.dumps({"__type": code, "message": message}), "application/x-amz-json-1.1"
        else:
            body, kind = ERROR.format(code=code, message=message), "text/xml"
        start_response(f"{status} Bad Request", [("Content-Type", kind)])
        return [body.encode()]

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any], action: str) -> Iterable[bytes]:
        if action != "DescribeInstances" or not self.emulator.page:
            return self.inner(environ, start_response)
        kept: list[Any] = []
        body = b"".join(self.inner(environ, lambda status, headers, exc_info=None: kept.extend((status, headers))))
        body = re.sub(rb"<ipAddress>[^<]*", b"<ipAddress>" + self.emulator.page.encode(), body)
        headers = [(name, value) for name, value in kept[1] if name.lower() != "content-length"]
        start_response(kept[0], headers)
        return [body]


@pytest.fixture(scope="session")
def layer() -> Iterator[Layer]:
    os.environ["MOTO_AMIS_PATH"] = str(IMAGES)
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    layer = Layer(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, layer, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    layer.emulator.url = f"http://127.0.0.1:{server.server_port}"
    yield layer
    server.shutdown()
    thread.join()


@pytest.fixture
def aws(layer: Layer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A fresh account with nothing of the machine's own credentials."""
    import urllib.request

    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("LANG", "C")
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.01)
    url = layer.emulator.url
    layer.emulator.errors.clear()
    layer.emulator.page = ""
    reset = urllib.request.Request(f"{url}/moto-api/reset", method="POST")
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(reset).close()
    layer.emulator.asked.clear()
    yield layer.emulator
    layer.emulator.errors.clear()


@pytest.fixture
def cloud(aws: Emulator) -> Cloud:
    return Cloud.at(REGION, aws.url)


@pytest.fixture
def image(cloud: Cloud) -> str:
    """An image of ours, made the way Packer makes one."""
    return make_image(cloud, "danqing-0.1.0-1")


def make_image(cloud: Cloud, name: str, day: str = "2026-11-01") -> str:
    """The id of a new image with a snapshot, made on that day."""
    from moto.ec2.models import ec2_backends

    base = cloud.ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    builder = cloud.ec2.run_instances(ImageId=base, MinCount=1, MaxCount=1, InstanceType="m7i.xlarge")["Instances"][0]
    made = cloud.ec2.create_image(InstanceId=builder["InstanceId"], Name=name)["ImageId"]
    cloud.ec2.create_tags(Resources=[made], Tags=[{"Key": "Project", "Value": "danqing"}])
    cloud.ec2.terminate_instances(InstanceIds=[builder["InstanceId"]])
    for regions in ec2_backends.values():
        for backend in regions.values():
            if made in backend.amis:
                backend.amis[made].creation_date = datetime.datetime.fromisoformat(day)
    return str(made)
