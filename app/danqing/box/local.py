"""Talking to Danqing on this machine, as the machine itself: a token in a file that only the service and root can read."""

from __future__ import annotations

import base64
import json
import os
import secrets
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danqing.box.places import PORT, USER, Places
from danqing.box.tools import give

URL_VARIABLE = "DANQING_BOX_URL"
DATA_VARIABLE = "DANQING_BOX_DATA"
TOKEN_FILE = "secrets/box.token"
MACHINE = "box"
"""The name that the machine logs in with; its pictures belong to nobody else."""

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def data_folder(places: Places) -> Path:
    """Danqing's data folder on this machine."""
    named = os.environ.get(DATA_VARIABLE, "")
    return Path(named) if named else places.data


def machine_token(data: Path, make: bool = False) -> str:
    """The token, made when it is missing and `make`; "" where there is none or it may not be read."""
    path = data / TOKEN_FILE
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        if not make:
            return ""
    from danqing.api.sessions import write_secret

    token = secrets.token_urlsafe(32)
    write_secret(path, token + "\n")
    for made in (path.parent, path):
        give(made, USER)
    return token


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: `status` 0 when nobody listens."""

    status: int
    text: str

    def json(self) -> dict[str, Any]:
        try:
            found = json.loads(self.text)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


class Client:
    """Danqing's API at this machine's own address."""

    def __init__(self, places: Places, url: str = "") -> None:
        self.url = (url or os.environ.get(URL_VARIABLE, f"http://127.0.0.1:{PORT}")).rstrip("/")
        self._data = data_folder(places)

    def get(self, path: str, seconds: float = 5.0) -> Answer:
        return self._ask(urllib.request.Request(self.url + path), seconds)

    def post(self, path: str, body: dict[str, Any], seconds: float = 600.0) -> Answer:
        """JSON out, JSON back; as long as a picture may take."""
        content = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, content, {"Content-Type": "application/json"})
        return self._ask(request, seconds)

    def _ask(self, request: urllib.request.Request, seconds: float) -> Answer:
        if token := machine_token(self._data):
            pair = base64.b64encode(f"{MACHINE}:{token}".encode()).decode()
            request.add_header("Authorization", f"Basic {pair}")
        try:
            with _OPENER.open(request, timeout=seconds) as answer:
                return Answer(answer.status, answer.read().decode("utf-8", "replace"))
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read().decode("utf-8", "replace"))
        except OSError as error:
            return Answer(0, str(error))
