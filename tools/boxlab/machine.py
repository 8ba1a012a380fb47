"""One machine: systemd as PID 1 in a container, with its own network and control groups."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from . import net
from .disks import Disk
from .host import LabError, run

HIERARCHIES = ("systemd", "unified")
REBOOT = 133
"""systemd-nspawn's exit status when the system inside asked for a reboot."""
CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}


class Machine:
    """A container on `disk`, reachable at `address` in the lab's network.

    Args:
        name: of its namespace and control groups, unique on this host.
        port: of its interface at the lab's bridge, at most 15 characters.
        binds: host folder -> folder inside, read-only.
        online: whether it reaches the host's network too (through slirp4netns).
        halted: called when the system inside switched itself off.
    """

    def __init__(
        self,
        lab: str,
        name: str,
        port: str,
        address: str,
        disk: Disk,
        *,
        binds: dict[Path, str] | None = None,
        online: bool = False,
        halted: Callable[[], None] = lambda: None,
    ) -> None:
        self.lab, self.name, self.port, self.address, self.disk = lab, name, port, address, disk
        self.binds = binds or {}
        self.devices: dict[str, str] = {}
        """Block devices of the host -> their names inside."""
        self.online = online
        self.halted = halted
        self.log = disk.folder / "console.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.slirp: subprocess.Popen[bytes] | None = None
        self.stopping = False
        self.booted_at = 0.0

    def start(self) -> None:
        """Boot; returns as soon as the container runs, not when its services do."""
        self.stopping = False
        self.disk.mount()
        net.make_machine(self.lab, self.name, self.port, self.address)
        self._resolver()
        for hierarchy in HIERARCHIES:
            Path("/sys/fs/cgroup", hierarchy, self.name).mkdir(parents=True, exist_ok=True)
        self._spawn()
        threading.Thread(target=self._watch, daemon=True).start()

    def _resolver(self) -> None:
        """What DHCP would have written."""
        path = self.disk.root / "etc/resolv.conf"
        path.unlink(missing_ok=True)
        path.write_text("nameserver 10.0.2.3\n" if self.online else "")
        if self.online:
            command = ["slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", "--netns-type=path"]
            self.slirp = subprocess.Popen(
                [*command, f"/run/netns/{self.name}", "tap0"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _spawn(self) -> None:
        groups = "".join(f"echo $$ >/sys/fs/cgroup/{hierarchy}/{self.name}/cgroup.procs; " for hierarchy in HIERARCHIES)
        nspawn = ["systemd-nspawn", "--register=no", "--keep-unit", "--quiet", f"--machine={self.name}"]
        nspawn += ["-D", str(self.disk.root), f"--network-namespace-path=/run/netns/{self.name}"]
        nspawn += ["--resolv-conf=off", "--link-journal=no", "--console=pipe", "--boot"]
        nspawn += [f"--bind-ro={source}:{target}" for source, target in self.binds.items()]
        nspawn += [f"--bind={source}:{target}" for source, target in self.devices.items()]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["sh", "-c", f'{groups}exec "$@"', "sh", *nspawn],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=CLEAN,
            )
        self.booted_at = time.time()

    def _watch(self) -> None:
        """Boot again when the system inside rebooted, report when it went off by itself."""
        while True:
            process = self.process
            assert process
            status = process.wait()
            if self.stopping:
                return
            if status != REBOOT:
                self.release()
                self.halted()
                return
            self._spawn()

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self, patience: float = 60.0) -> None:
        """Shut the system down as a power button would; killed when it does not end within `patience` seconds."""
        self.stopping = True
        if self.process and self.running:
            os.kill(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                kill_group(self.name)
                self.process.wait()
        self.release()

    def release(self) -> None:
        """Give back what the host lent to the machine; its disk stays."""
        if self.slirp:
            self.slirp.terminate()
            self.slirp.wait()
            self.slirp = None
        net.remove(self.name)
        remove_groups(self.name)

    def reboot(self) -> None:
        self.execute("systemctl", "reboot", check=False)

    def leader(self) -> int:
        """Host's process id of the system's PID 1. Raises LabError when it does not run."""
        if self.process and self.running:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
            found = children.read_text().split() if children.exists() else []
            if found:
                return int(found[0])
        raise LabError(f"{self.name} does not run")

    def execute(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as root inside, without a login: the lab's own back door."""
        environment = [f"{name}={value}" for name, value in CLEAN.items()]
        return run("env", "-i", *environment, "nsenter", "-t", str(self.leader()), "-a", "--", *command, check=check)


def kill_group(name: str) -> None:
    """Kill every process in the machine's control groups."""
    for hierarchy in HIERARCHIES:
        for listing in Path("/sys/fs/cgroup", hierarchy, name).rglob("cgroup.procs"):
            for pid in listing.read_text().split():
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    continue


def remove_groups(name: str) -> None:
    """Remove the machine's control groups; processes must be gone (a moment is granted)."""
    for hierarchy in HIERARCHIES:
        top = Path("/sys/fs/cgroup", hierarchy, name)
        for _ in range(50):
            folders = [path for path in sorted(top.rglob("*"), reverse=True) if path.is_dir()] if top.is_dir() else []
            try:
                for folder in [*folders, *([top] if top.is_dir() else [])]:
                    folder.rmdir()
                break
            except OSError:
                time.sleep(0.1)
