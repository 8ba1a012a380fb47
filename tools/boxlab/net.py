"""Networks of a lab: a namespace with a bridge, one namespace a machine, sockets opened inside them from here.

Nothing touches the host's own addresses: the bridge lives in the lab's namespace, and the lab's process opens sockets there
by letting a thread join the namespace while it makes them (a socket belongs to the namespace it was made in).
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .host import run

GATEWAY = "172.31.0.1"
PREFIX = 16
METADATA = "169.254.169.254"
CLONE_NEWNET = 0x40000000
Result = TypeVar("Result")
_libc = ctypes.CDLL(None, use_errno=True)


def inside(namespace: str, work: Callable[[], Result]) -> Result:
    """What `work` returns, run by a thread that has joined the network namespace; its exception is raised here."""
    outcome: list[Result] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            with open(f"/run/netns/{namespace}", "rb") as handle:
                if _libc.setns(handle.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"cannot join network namespace {namespace}")
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001  raised again by the caller
            failure.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def listen(namespace: str | None, address: str, port: int) -> socket.socket:
    """A listening TCP socket, in the host's network when `namespace` is None; port 0 takes a free one."""

    def make() -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(128)
        return listener

    return inside(namespace, make) if namespace else make()


def connect(namespace: str, address: str, port: int, timeout: float = 3.0) -> socket.socket:
    """A connected TCP socket of that namespace. Raises OSError after `timeout` seconds."""
    return inside(namespace, lambda: socket.create_connection((address, port), timeout))


def make_lab(namespace: str) -> None:
    """The lab's namespace: a bridge with the gateway's address and the metadata service's."""
    run("ip", "netns", "add", namespace)
    for command in (
        "link set lo up",
        # a fixed address: a bridge otherwise takes the lowest of its members', and every cached ARP entry goes stale
        "link add br0 address 02:00:ac:1f:00:01 type bridge",
        f"addr add {GATEWAY}/{PREFIX} dev br0",
        f"addr add {METADATA}/32 dev br0",
        "link set br0 up",
    ):
        run("ip", "-n", namespace, *command.split())


def make_machine(lab: str, namespace: str, port: str, address: str) -> None:
    """A machine's namespace with `address` on `host0`, joined to the lab's bridge by the interface `port`."""
    hardware = "02:00:" + ":".join(f"{int(part):02x}" for part in address.split("."))
    run("ip", "netns", "add", namespace)
    run("ip", "link", "add", port, "netns", lab, "type", "veth", "peer", "name", "host0", "netns", namespace)
    run("ip", "-n", lab, "link", "set", port, "master", "br0", "up")
    for command in (
        "link set lo up",
        f"link set host0 address {hardware}",
        f"addr add {address}/{PREFIX} dev host0",
        "link set host0 up",
        f"route add {METADATA}/32 via {GATEWAY} dev host0",
        # a high metric, so that slirp4netns's route wins where there is one
        f"route add default via {GATEWAY} dev host0 metric 1000",
    ):
        run("ip", "-n", namespace, *command.split())


def remove(namespace: str) -> None:
    """Delete a namespace and with it its interfaces; none there is no error."""
    if Path("/run/netns", namespace).exists():
        run("ip", "netns", "del", namespace, check=False)


def names(prefix: str) -> list[str]:
    """Network namespaces whose name begins with `prefix`."""
    folder = Path("/run/netns")
    return sorted(entry for entry in os.listdir(folder) if entry.startswith(prefix)) if folder.is_dir() else []
