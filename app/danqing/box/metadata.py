"""The machine's metadata service, IMDSv2 only: a token first, never a plain GET. Standard library only."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from typing import Any

from danqing.box.places import Places

ADDRESS_VARIABLE = "DANQING_METADATA"
"""Another address of the service, for tests."""
ADDRESS = "http://169.254.169.254"
SECONDS = 2.0
WAIT_SECONDS = 60.0
"""A machine's network is up some seconds after its first services start."""
POLL_SECONDS = 0.5
FIRMWARE = ("sys/class/dmi/id/sys_vendor", "sys/hypervisor/uuid")
TOKEN_SECONDS = 21600
TOLD = "# danqing: "
"""Starts the line of the user data that is for us."""

# Never through a proxy: it would send the machine's identity elsewhere.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def on_ec2(places: Places) -> bool:
    """Whether the firmware says that this is an EC2 machine; known before there is a network."""
    for name in FIRMWARE:
        try:
            text = (places.root / name).read_text().lower()
        except OSError:
            continue
        if text.startswith(("amazon ec2", "ec2")):
            return True
    return False


class Metadata:
    """One machine's metadata. Outside EC2 everything is absent, after one short wait."""

    def __init__(self, address: str = "") -> None:
        self._address = address or os.environ.get(ADDRESS_VARIABLE, ADDRESS)
        self._token: str | None = None
        self._absent = False
        self._seen = False

    def get(self, path: str) -> str | None:
        """The text at `latest/PATH`; None when there is none, or no service."""
        token = self._known_token()
        if token is None:
            return None
        request = urllib.request.Request(f"{self._address}/latest/{path}", headers={"X-aws-ec2-metadata-token": token})
        try:
            with _OPENER.open(request, timeout=SECONDS) as answer:
                return str(answer.read().decode("utf-8", "replace"))
        except urllib.error.HTTPError as error:
            if error.code == 401:
                self._token = None
            return None
        except OSError:
            return None

    def wait(self, places: Places, seconds: float = WAIT_SECONDS) -> None:
        """On EC2, until the network is up and the service answers; elsewhere not at all."""
        end = time.monotonic() + seconds
        while on_ec2(places) and not self.present and time.monotonic() < end:
            self._absent = False
            time.sleep(POLL_SECONDS)

    @property
    def present(self) -> bool:
        """Whether this is an EC2 machine (or an emulated one)."""
        return self._known_token() is not None

    def _known_token(self) -> str | None:
        if self._token is None and not self._absent:
            request = urllib.request.Request(
                f"{self._address}/latest/api/token",
                method="PUT",
                headers={"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)},
            )
            try:
                with _OPENER.open(request, timeout=SECONDS) as answer:
                    self._token = answer.read().decode("ascii").strip()
                self._seen = True
            except (OSError, ValueError):
                # A service that was there once is there: it was busy when a token had run out.
                self._absent = not self._seen
        return self._token

    def facts(self) -> dict[str, str]:
        """Who this machine is; empty outside EC2."""
        paths = {
            "instance": "meta-data/instance-id",
            "type": "meta-data/instance-type",
            "zone": "meta-data/placement/availability-zone",
            "region": "meta-data/placement/region",
            "image": "meta-data/ami-id",
            "lifecycle": "meta-data/instance-life-cycle",
        }
        return {name: value.strip() for name, path in paths.items() if (value := self.get(path))}

    def told(self) -> dict[str, Any]:
        """What the launch told this machine: the JSON after `# danqing:` in its user data."""
        for line in (self.get("user-data") or "").splitlines():
            if line.startswith(TOLD):
                try:
                    found = json.loads(line.removeprefix(TOLD))
                except ValueError:
                    return {}
                return found if isinstance(found, dict) else {}
        return {}
