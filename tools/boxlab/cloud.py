"""The emulated AWS: moto answers, and a thin layer over it makes its instances and images real.

The layer is a WSGI application around moto's own. It looks at the EC2 actions that succeeded: RunInstances boots a machine on
the image's disk, StopInstances shuts it down, CreateImage freezes its disk into an image, and so on.
"""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from .daemon import Fleet

INSTANCE = re.compile(r"<instanceId>(i-[0-9a-f]+)</instanceId>")
IMAGE = re.compile(r"<imageId>(ami-[0-9a-z]+)</imageId>")
DISK = re.compile(r"(BlockDeviceMapping\.\d+\.Ebs)\.")
ROOT_GIB = 20
SCOPE = re.compile(r"Credential=[^/]+/\d+/([a-z0-9-]+)/")
StartResponse = Callable[..., Any]
Form = dict[str, str]


def moto_application() -> Callable[..., Iterable[bytes]]:
    """moto's server as a WSGI application. Its images come from the file that MOTO_AMIS_PATH names."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    return DomainDispatcherApplication(create_backend_app)


class Layer:
    """The WSGI application that clients talk to."""

    def __init__(self, inner: Callable[..., Iterable[bytes]], fleet: Fleet) -> None:
        self.inner = inner
        self.fleet = fleet
        self.lock = threading.Lock()
        self.actions: dict[str, Callable[[str, Form, str], None]] = {
            "RunInstances": self._run,
            "StartInstances": lambda region, form, answer: self._each(answer, fleet.start),
            "StopInstances": lambda region, form, answer: self._each(answer, fleet.stop),
            "TerminateInstances": lambda region, form, answer: self._each(answer, fleet.terminate),
            "RebootInstances": lambda region, form, answer: self._named(form, fleet.reboot),
            "CreateImage": self._create_image,
            "CopyImage": self._copy_image,
            "AttachVolume": lambda region, form, answer: fleet.attach(
                form["InstanceId"], form["VolumeId"], form["Device"]
            ),
            "DetachVolume": lambda region, form, answer: fleet.detach(form["VolumeId"]),
            "DeleteVolume": lambda region, form, answer: fleet.delete_volume(form["VolumeId"]),
        }

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO", "").startswith("/_lab/"):
            return self._lab(environ, start_response)
        form = _form(environ)
        action = self.actions.get(form.get("Action", ""))
        if action is None:
            return self.inner(environ, start_response)
        if form["Action"] == "RunInstances":
            _give_sizes(environ)
        with self.lock:
            status, headers, body = _captured(self.inner, environ)
            if status.startswith("2"):
                action(_region(environ), form, body.decode())
        start_response(status, headers)
        return [body]

    def _run(self, region: str, form: Form, answer: str) -> None:
        for instance in INSTANCE.findall(answer):
            self.fleet.launch(region, instance)

    @staticmethod
    def _each(answer: str, work: Callable[[str], None]) -> None:
        for instance in INSTANCE.findall(answer):
            work(instance)

    @staticmethod
    def _named(form: Form, work: Callable[[str], None]) -> None:
        for name, instance in form.items():
            if name.startswith("InstanceId."):
                work(instance)

    def _create_image(self, region: str, form: Form, answer: str) -> None:
        for image in IMAGE.findall(answer):
            self.fleet.create_image(region, form["InstanceId"], image)

    def _copy_image(self, region: str, form: Form, answer: str) -> None:
        for image in IMAGE.findall(answer):
            self.fleet.copy_image(form["SourceImageId"], image)

    def _lab(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """The lab's own questions: GET machines; POST metadata {instance, path, value} for notices, door {instance, port}."""
        name = environ["PATH_INFO"].removeprefix("/_lab/")
        if name == "machines":
            answer: Any = self.fleet.describe()
        elif name == "metadata" and environ["REQUEST_METHOD"] == "POST":
            asked = json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
            self.fleet.override(asked["instance"], asked["path"], asked["value"])
            answer = {}
        elif name == "door" and environ["REQUEST_METHOD"] == "POST":
            asked = json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
            answer = {"port": self.fleet.door(asked["instance"], asked["port"])}
        else:
            start_response("404 Not Found", [])
            return [b""]
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]


def _form(environ: dict[str, Any]) -> Form:
    """The form of a query-protocol request; the body is put back for moto."""
    if not str(environ.get("CONTENT_TYPE", "")).startswith("application/x-www-form-urlencoded"):
        return {}
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return dict(parse_qsl(body.decode(errors="replace")))


def _give_sizes(environ: dict[str, Any]) -> None:
    """Complete disks that a request describes without a size: AWS takes the image's, moto refuses."""
    body = environ["wsgi.input"].read()
    form = dict(parse_qsl(body.decode()))
    for name in list(form):
        disk = DISK.match(name)
        if disk and not {f"{disk[1]}.VolumeSize", f"{disk[1]}.SnapshotId"} & form.keys():
            body += f"&{disk[1]}.VolumeSize={ROOT_GIB}".encode()
            form[f"{disk[1]}.VolumeSize"] = ""
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))


def _region(environ: dict[str, Any]) -> str:
    found = SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
    return found[1] if found else "us-east-1"


def _captured(
    inner: Callable[..., Iterable[bytes]], environ: dict[str, Any]
) -> tuple[str, list[tuple[str, str]], bytes]:
    kept: list[Any] = []
    chunks = inner(environ, lambda status, headers, exc_info=None: kept.extend((status, headers)))
    body = b"".join(chunks)
    return kept[0], kept[1], body
