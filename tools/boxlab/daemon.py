"""The lab's process: the emulated AWS, the metadata service and the machines, until it is told to end."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

from . import metadata, net
from .cloud import Layer, moto_application
from .disks import Disk, Image, Images
from .forward import Forward
from .host import LabError
from .lab import ACCOUNT, Lab
from .machine import Machine
from .volumes import Volumes

DOORS = (22, 80, 443)
"""Ports of a machine that its public address leads to."""

ROOTS = ("/dev/xvda", "/dev/sda1")
"""Names of root disks: the base's, and the one that moto gives every instance besides."""


class Fleet:
    """The machines of a lab, one for each of moto's instances that lives."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.images = Images(lab.folder / "images")
        self.volumes = Volumes(lab.folder / "volumes")
        self.machines: dict[str, Machine] = {}
        self.regions: dict[str, str] = {}
        self.doors: dict[str, list[Forward]] = {}
        self.overrides: dict[str, dict[str, str]] = {}
        self.count = 9

    # --- what the emulated AWS tells us

    def launch(self, region: str, instance: str) -> None:
        """Boot a new instance on its image's disk, with addresses of the lab's choosing."""
        known = self._moto(region).get_instance(instance)
        image = self.images.get(known.image_id)
        self.count += 1
        private, public = f"172.31.200.{self.count}", f"127.{self.lab.octet}.0.{self.count}"
        known.nics[0].private_ip_address = private
        known.nics[0].private_ip_addresses = [{"Primary": True, "PrivateIpAddress": private}]
        known.nics[0].public_ip = public
        disk = Disk(self.lab.folder / "instances" / instance, image.layers)
        base = known.image_id == self.lab.base_image
        self.machines[instance] = Machine(
            self.lab.namespace,
            f"{self.lab.namespace}-{self.count}",
            f"{self.lab.namespace}p{self.count}",
            private,
            disk,
            binds={self.lab.wheelhouse: "/opt/wheelhouse"} if base else {},
            online=base,
            halted=lambda: self._halted(instance),
        )
        self.regions[instance] = region
        for device, mapped in known.block_device_mapping.items():
            if device not in ROOTS:
                self._bind(instance, mapped.volume_id, device, mapped.size)
        self.doors[instance] = [Forward(self.lab.namespace, public, port, (private, port)) for port in DOORS]
        self.machines[instance].start()

    def start(self, instance: str) -> None:
        known = self._instance(instance)
        known.nics[0].public_ip = f"127.{self.lab.octet}.0.{known.private_ip.rpartition('.')[2]}"
        if not self.machines[instance].running:
            self.machines[instance].start()

    def stop(self, instance: str) -> None:
        self.machines[instance].stop()

    def reboot(self, instance: str) -> None:
        self.machines[instance].reboot()

    def terminate(self, instance: str) -> None:
        """Stop the machine and throw its disk away; volumes that outlive it stay."""
        machine = self.machines.pop(instance, None)
        if machine:
            machine.stop()
            self.volumes.release(instance)
            machine.disk.remove()
        for door in self.doors.pop(instance, []):
            door.close()

    def create_image(self, region: str, instance: str, image: str) -> None:
        """Freeze the machine's disk; a running one is stopped for it and started again, as EC2 does."""
        machine = self.machines[instance]
        running = machine.running
        if running:
            machine.stop()
        _forget_mounts(machine)
        layers = machine.disk.freeze(self.lab.folder / "images" / image)
        self.images.add(Image(image, layers))
        if running:
            machine.start()
        described = self._moto(region).amis[image]
        described.root_device_type = "ebs"
        described.root_device_name = self._instance(instance).root_device_name

    def copy_image(self, source: str, image: str) -> None:
        self.images.add(Image(image, self.images.get(source).layers))

    def attach(self, instance: str, volume: str, device: str) -> None:
        size = self._moto(self.regions[instance]).get_volume(volume).size
        self._bind(instance, volume, device, size)

    def detach(self, volume: str) -> None:
        self.volumes.detach(volume)

    def delete_volume(self, volume: str) -> None:
        self.volumes.delete(volume)

    # --- what the machines and the tests ask

    def metadata_of(self, address: str) -> metadata.Tree | None:
        for instance, machine in list(self.machines.items()):
            if machine.address == address:
                return self._tree(instance)
        return None

    def override(self, instance: str, path: str, value: str) -> None:
        """Let the metadata service answer `value` under meta-data/`path`, as for a spot notice; "" takes it back."""
        self.overrides.setdefault(instance, {})[path] = value

    def door(self, instance: str, port: int) -> int:
        """Lead this host's 127.0.0.1:`port` (0: a free one) to the machine's port 80 too. Raises OSError when it is taken."""
        target = (self.machines[instance].address, 80)
        self.doors[instance].append(Forward(self.lab.namespace, "127.0.0.1", port, target))
        return self.doors[instance][-1].port

    def describe(self) -> dict[str, Any]:
        return {
            instance: {
                "address": machine.address,
                "public": self.doors[instance][0].listener.getsockname()[0] if self.doors.get(instance) else "",
                "name": machine.name,
                "running": machine.running,
                "process": machine.process.pid if machine.process and machine.running else 0,
                "root": str(machine.disk.root),
                "console": str(machine.log),
                "booted_at": machine.booted_at,
            }
            for instance, machine in list(self.machines.items())
        }

    def close(self) -> None:
        stops = [threading.Thread(target=machine.stop, args=(15.0,)) for machine in self.machines.values()]
        for stop in stops:
            stop.start()
        for stop in stops:
            stop.join()

    # --- inner parts

    def _moto(self, region: str) -> Any:
        from moto.ec2.models import ec2_backends

        return ec2_backends[ACCOUNT][region]

    def _instance(self, instance: str) -> Any:
        return self._moto(self.regions[instance]).get_instance(instance)

    def _bind(self, instance: str, volume: str, device: str, size: int) -> None:
        self.volumes.attach(self.machines[instance], instance, volume, device, size)

    def _halted(self, instance: str) -> None:
        """The system inside went off by itself: EC2 stops or terminates the instance as it was launched to."""
        known = self._instance(instance)
        if known.instance_initiated_shutdown_behavior == "terminate":
            known.terminate()
            self.terminate(instance)
        else:
            known.stop()

    def _tree(self, instance: str) -> metadata.Tree:
        region = self.regions[instance]
        known = self._instance(instance)
        pair = self._moto(region).key_pairs.get(known.key_name or "")
        key = (pair.key_name, pair.public_key.strip()) if pair else None
        tree = metadata.tree(known, known.image_id, region, known.availability_zone, key)
        if known.user_data:
            tree["user-data"] = _text(known.user_data)
        for path, value in self.overrides.get(instance, {}).items():
            *folders, leaf = path.split("/")
            node = tree["meta-data"]
            for folder in folders:
                node = node.setdefault(folder, {})
            if value:
                node[leaf] = value
        return tree


def _text(user_data: Any) -> str:
    """User data as the machine reads it; moto keeps it in base64."""
    return user_data if isinstance(user_data, str) else str(user_data.decode())


def _forget_mounts(machine: Machine) -> None:
    """Remove the empty folders that read-only binds left, and the resolver's file: neither belongs into an image."""
    for target in machine.binds.values():
        path = machine.disk.root / target.lstrip("/")
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    (machine.disk.root / "etc/resolv.conf").write_text("")


def serve(lab: Lab) -> None:
    """Run the lab until SIGTERM; `lab.folder`/ready appears when it answers."""
    os.environ["MOTO_AMIS_PATH"] = str(lab.folder / "amis.json")
    os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
    os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    fleet = Fleet(lab)
    fleet.images.add(Image(lab.base_image, (lab.base,)))
    if lab.kept:
        fleet.images.add(Image(lab.kept.image, (lab.kept.layer, lab.base)))
    net.make_lab(lab.namespace)
    metadata.Metadata(net.listen(lab.namespace, net.METADATA, 80), fleet.metadata_of)
    _serve_cloud(lab, Layer(moto_application(), fleet))
    (lab.folder / "ready").write_text(json.dumps({"pid": os.getpid()}))
    ended.wait()
    fleet.close()


def _serve_cloud(lab: Lab, application: Layer) -> None:
    """The same cloud twice: for this host on loopback, for the lab's network at the gateway."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import make_server

    os.environ["MOTO_PORT"] = str(lab.port)
    for namespace, address in ((None, "127.0.0.1"), (lab.namespace, net.GATEWAY)):
        listener = net.listen(namespace, address, lab.port)
        server = make_server(
            address,
            lab.port,
            application,
            threaded=True,
            fd=os.dup(listener.fileno()),
            request_handler=MotoRequestHandler,
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()


def main(folder: Path) -> None:
    lab = Lab.load(folder)
    try:
        serve(lab)
    except LabError as error:
        print(error, flush=True)
        raise SystemExit(1) from error
