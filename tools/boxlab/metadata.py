"""The instance metadata service, version 2 only: 169.254.169.254 as the machines of a lab see it.

Follows AWS's description of IMDSv2: a PUT with a lifetime gives a token, every GET needs one, version 1 gets 401, a request
that came through a proxy gets no token. Who asks is told by the source address.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Tree = dict[str, Any]
LONGEST = 21600
"""Seconds that a token may live."""


class Metadata:
    """Answers machines with what `tree_of(source address)` knows: nested dicts, leaves are strings."""

    def __init__(self, listener: socket.socket, tree_of: Callable[[str], Tree | None]) -> None:
        self.tree_of = tree_of
        self.tokens: dict[str, tuple[str, float]] = {}
        self.server = ThreadingHTTPServer(("", 0), _handler(self), bind_and_activate=False)
        self.server.socket.close()
        self.server.socket = listener
        self.server.server_name, self.server.server_port = "169.254.169.254", 80
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def token(self, source: str, lifetime: str | None) -> str | None:
        """A new token, None when the lifetime is no number of seconds from 1 to 21600."""
        if not lifetime or not lifetime.isdigit() or not 1 <= int(lifetime) <= LONGEST:
            return None
        token = secrets.token_urlsafe(40)
        self.tokens[token] = (source, time.monotonic() + int(lifetime))
        return token

    def valid(self, token: str | None, source: str) -> bool:
        owner, until = self.tokens.get(token or "", ("", 0.0))
        return owner == source and until > time.monotonic()

    def look_up(self, source: str, path: str) -> str | None:
        """The leaf's text or the folder's listing, None where there is nothing."""
        node: Any = self.tree_of(source)
        # every dated version answers as the latest does
        for part in [part for part in path.split("/") if part][1:]:
            node = node.get(part) if isinstance(node, dict) else None
        return _listing(node) if isinstance(node, dict) else node


def _listing(folder: Tree) -> str:
    if ".listing" in folder:
        return str(folder[".listing"])
    return "\n".join(f"{name}/" if isinstance(value, dict) else name for name, value in sorted(folder.items()))


def _handler(service: Metadata) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _send(self, status: int, text: str = "", **headers: str) -> None:
            body = text.encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body)), "Server": "EC2ws"}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def do_PUT(self) -> None:
            if self.path != "/latest/api/token":
                return self._send(404)
            if self.headers.get("X-Forwarded-For"):
                return self._send(403)
            lifetime = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
            token = service.token(self.client_address[0], lifetime)
            if token is None:
                return self._send(400)
            return self._send(200, token, X_aws_ec2_metadata_token_ttl_seconds=str(lifetime))

        def do_GET(self) -> None:
            source = self.client_address[0]
            if not service.valid(self.headers.get("X-aws-ec2-metadata-token"), source):
                return self._send(401)
            found = service.look_up(source, self.path)
            return self._send(404) if found is None else self._send(200, found)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            print("metadata", self.client_address[0], format % args, flush=True)

    return Handler


def tree(instance: Any, image: str, region: str, zone: str, public_key: tuple[str, str] | None) -> Tree:
    """What one instance (moto's object) is told about itself.

    Args:
        public_key: name and OpenSSH text of its key pair.
    """
    address = instance.private_ip
    hardware = "02:00:" + ":".join(f"{int(part):02x}" for part in address.split("."))
    host = instance.private_dns_name
    meta: Tree = {
        "ami-id": image,
        "ami-launch-index": "0",
        "hostname": host,
        "local-hostname": host,
        "instance-action": "none",
        "instance-id": instance.id,
        "instance-life-cycle": "spot" if getattr(instance, "lifecycle", None) == "spot" else "on-demand",
        "instance-type": instance.instance_type,
        "local-ipv4": address,
        "public-ipv4": instance.public_ip or "",
        "mac": hardware,
        "security-groups": "\n".join(group.name for group in instance.security_groups or []),
        "placement": {"availability-zone": zone, "region": region},
        "services": {"domain": "amazonaws.com", "partition": "aws"},
        "block-device-mapping": {"ami": "xvda", "root": instance.root_device_name},
        "network": {
            "interfaces": {"macs": {hardware: {"device-number": "0", "local-ipv4s": address, "mac": hardware}}}
        },
    }
    if public_key:
        name = public_key[0]
        # the key pair's name is the key's comment: by it Packer finds its own key again and removes it
        text = " ".join([*public_key[1].split()[:2], name])
        meta["public-keys"] = {".listing": f"0={name}", "0": {"openssh-key": text}}
    if instance.metadata_options.instance_metadata_tags == "enabled":
        meta["tags"] = {"instance": {tag["key"]: tag["value"] for tag in instance.get_tags()}}
    identity = {"instanceId": instance.id, "imageId": image, "region": region, "availabilityZone": zone}
    identity |= {"instanceType": instance.instance_type, "privateIp": address, "architecture": "x86_64"}
    identity |= {"accountId": "123456789012", "version": "2017-09-30"}
    return {"meta-data": meta, "dynamic": {"instance-identity": {"document": json.dumps(identity)}}}
