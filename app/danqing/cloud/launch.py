"""Launching a box: from a wish to a page that answers, and moving its data to a newer image."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from danqing.cloud import facts, images, instances, network, volumes, waiting
from danqing.cloud.clients import Cloud, tag_list
from danqing.cloud.errors import CloudError
from danqing.cloud.instances import Instance

Say = Callable[[str, str], None]
"""Tells how it goes: an English and a Chinese sentence."""

PROFILE_TRIES = 15
"""A profile that was just made is not known everywhere for some seconds."""
PROFILE_WAIT = 2.0
NEXT_ZONE = ("no_capacity", "type_not_here")


@dataclass(frozen=True, slots=True)
class Wish:
    """What to launch. Sizes in GiB; `init_rate` in MiB/s, 0 for none; `minutes` to wait for the page, 0 for not at all."""

    name: str = "danqing"
    instance_type: str = facts.DEFAULT_TYPE
    image: str = ""
    cidrs: Sequence[str] = ()
    ssh_cidrs: Sequence[str] = ()
    key: str = ""
    subnet: str = ""
    disk_gb: int = 0
    data_gb: int = 0
    init_rate: int = 300
    kms_key: str = ""
    spot: bool = False
    spot_price: str = ""
    profile: bool = True
    any_type: bool = False
    replace: bool = False
    minutes: float = 20.0
    box: dict[str, Any] = field(default_factory=dict)
    """For the machine's first boot: `idle_minutes`, `settings`."""


@dataclass(frozen=True, slots=True)
class Place:
    """Everything that RunInstances needs and that was looked up first."""

    image: images.Image
    subnets: Sequence[dict[str, Any]]
    group: str
    profile: str
    volume: dict[str, Any] | None


def launch(cloud: Cloud, wish: Wish, say: Say) -> Instance:
    """Launch, wait for the page, return the machine.

    Raises:
        CloudError: whatever keeps it from running; nothing that costs is left behind then, except where the error says so.
    """
    wish = checked(cloud, wish)
    old = _old(cloud, wish)
    place = _place(cloud, wish, old)
    say(f"Image {place.image.id} ({place.image.name})", f"镜像 {place.image.id}（{place.image.name}）")
    if old and place.volume:
        _free(cloud, wish, old, place.volume, say)
    try:
        new = _run(cloud, wish, place, say)
        new = _with_data(cloud, wish, place, new, say)
        new = waiting.until_ready(cloud, new, wish.minutes, say)
    except BaseException:
        if old and place.volume:
            _back(cloud, wish, old, place.volume, say)
        raise
    if old:
        instances.terminate(cloud, old)
        say(f"{old.id} (the old machine) is being terminated", f"正在终止旧机器 {old.id}")
    return new


def checked(cloud: Cloud, wish: Wish) -> Wish:
    """The wish with its networks in order.

    Raises:
        CloudError: `cidr_missing`, `bad_value`, `arm`, `no_gpu_type`.
    """
    # A machine of an emulator cannot cost anything and can be reached from here only.
    cidrs = wish.cidrs or ([network.EVERYBODY] if cloud.emulated else [])
    if not cidrs:
        raise CloudError("cidr_missing")
    facts.machine(wish.instance_type, wish.any_type)
    low, high = facts.INIT_RATES
    if wish.init_rate and not low <= wish.init_rate <= high:
        raise CloudError("bad_value", field="INIT_RATE", value=str(wish.init_rate), reason=f"{low} to {high}, or 0")
    if wish.spot_price and not _positive(wish.spot_price):
        raise CloudError("bad_value", field="SPOT_PRICE", value=wish.spot_price, reason="dollars an hour, such as 0.40")
    ssh = network.checked_cidrs(wish.ssh_cidrs, "SSH_CIDR")
    return replace(wish, cidrs=network.checked_cidrs(cidrs), ssh_cidrs=ssh)


def _positive(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def _old(cloud: Cloud, wish: Wish) -> Instance | None:
    """The machine of that name, which only REPLACE may end."""
    alive = [row for row in instances.all_of(cloud, wish.name) if row.state != "shutting-down"]
    if alive and not wish.replace:
        raise CloudError("name_taken", name=wish.name, instance=alive[-1].id)
    return alive[-1] if alive else None


def _place(cloud: Cloud, wish: Wish, old: Instance | None) -> Place:
    image = images.resolve(cloud, wish.image)
    if image.architecture != "x86_64":
        params = {"image": image.id, "architecture": image.architecture, "instance_type": wish.instance_type}
        raise CloudError("wrong_architecture", **params, other=facts.DEFAULT_TYPE)
    volume = volumes.find(cloud, wish.name)
    if volume and not (old and volumes.user_of(volume) == old.id):
        volumes.check_free(volume)
    zone = volume["AvailabilityZone"] if volume else ""
    try:
        subnets = network.subnets(cloud, wish.instance_type, wish.subnet, zone)
    except CloudError as error:
        if volume and wish.subnet and error.code == "no_network":
            params = {"volume": volume["VolumeId"], "zone": zone, "subnet": wish.subnet}
            raise CloudError("volume_elsewhere", **params) from None
        raise
    group = network.security_group(cloud, subnets[0]["VpcId"], wish.name, wish.cidrs, wish.ssh_cidrs)
    return Place(image, subnets, group, network.profile(cloud) if wish.profile else "", volume)


# -- the machine --


def _run(cloud: Cloud, wish: Wish, place: Place, say: Say) -> Instance:
    """RunInstances in the first zone that has room."""
    trouble: CloudError | None = None
    for subnet in place.subnets:
        try:
            return _run_in(cloud, wish, place, subnet, say)
        except CloudError as error:
            if error.code not in NEXT_ZONE:
                raise
            trouble = error
            say(f"no room in {subnet['AvailabilityZone']}", f"{subnet['AvailabilityZone']} 没有空闲机器")
    assert trouble is not None
    raise trouble


def _run_in(cloud: Cloud, wish: Wish, place: Place, subnet: dict[str, Any], say: Say) -> Instance:
    arguments = request(wish, place, subnet)
    known = {
        "instance_type": wish.instance_type,
        "image": place.image.id,
        "key": wish.key,
        "zones": ", ".join(str(row["AvailabilityZone"]) for row in place.subnets),
        "other": facts.other_than(wish.instance_type),
    }
    for left in reversed(range(PROFILE_TRIES)):
        try:
            with cloud.told(**known):
                row = cloud.ec2.run_instances(**arguments)["Instances"][0]
            break
        except CloudError as error:
            if left == 0 or "nstance Profile" not in str(error.params.get("message", "")):
                raise
            time.sleep(PROFILE_WAIT)
    new = Instance.of(row)
    say(f"{new.id} ({new.type}) starts in {new.zone}", f"{new.id}（{new.type}）正在 {new.zone} 启动")
    return _running(cloud, new)


def _running(cloud: Cloud, new: Instance) -> Instance:
    """The machine when it runs.

    Raises:
        CloudError: `stopped_early`: AWS began it and ended it again, as for a key that may not be used.
    """
    try:
        with cloud.told():
            cloud.ec2.get_waiter("instance_running").wait(InstanceIds=[new.id], WaiterConfig=instances.WAIT)
    except CloudError as error:
        new = instances.fresh(cloud, new.id)
        if error.params.get("code") != "Waiter" or new.state not in waiting.GONE:
            raise
        params = {"instance": new.id, "state": new.state, "region": cloud.region}
        raise CloudError("stopped_early", **params, reason=new.reason or "?") from None
    return instances.fresh(cloud, new.id)


def request(wish: Wish, place: Place, subnet: dict[str, Any]) -> dict[str, Any]:
    """The arguments of RunInstances."""
    tags = tag_list({**network.PROJECT, "Name": wish.name, "danqing:image": place.image.id})
    market = {"SpotOptions": {"SpotInstanceType": "one-time"}, "MarketType": "spot"}
    if wish.spot_price:
        market["SpotOptions"]["MaxPrice"] = wish.spot_price  # type: ignore[index]
    return {
        "ImageId": place.image.id,
        "InstanceType": wish.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled", "HttpPutResponseHopLimit": 1},
        "BlockDeviceMappings": [{"DeviceName": place.image.root, "Ebs": _root(wish, place.image)}],
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": subnet["SubnetId"],
                "Groups": [place.group],
                "AssociatePublicIpAddress": True,
            }
        ],
        "UserData": user_data(wish, place.volume),
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
        **({"IamInstanceProfile": {"Name": place.profile}} if place.profile else {}),
        **({"KeyName": wish.key} if wish.key else {}),
        **({"InstanceMarketOptions": market} if wish.spot else {}),
    }


def _root(wish: Wish, image: images.Image) -> dict[str, Any]:
    size = max(wish.disk_gb, image.root_gb)
    return {
        "VolumeType": "gp3",
        "DeleteOnTermination": True,
        **({"VolumeSize": size} if size else {}),
        **({"VolumeInitializationRate": wish.init_rate} if wish.init_rate else {}),
        **({"Encrypted": True, "KmsKeyId": wish.kms_key} if wish.kms_key else {}),
    }


def user_data(wish: Wish, volume: dict[str, Any] | None) -> str:
    """What the machine's first boot is told: cloud-init reads it as an empty configuration, `danqing box firstboot` its comment.

    No secret may go in here: everything on the machine can read it.
    """
    told = {**wish.box, **({"data_volume": volume["VolumeId"] if volume else "any"} if volume or wish.data_gb else {})}
    return "#cloud-config\n# danqing: " + json.dumps(told, ensure_ascii=True, sort_keys=True) + "\n"


# -- its data --


def _with_data(cloud: Cloud, wish: Wish, place: Place, new: Instance, say: Say) -> Instance:
    volume = place.volume["VolumeId"] if place.volume else ""
    if not volume and not wish.data_gb:
        return new
    try:
        if not volume:
            volume = volumes.create(cloud, wish.name, new.zone, wish.data_gb, wish.kms_key)
            say(f"Data volume {volume}, {wish.data_gb} GiB, made", f"已建立数据卷 {volume}，{wish.data_gb} GiB")
        volumes.attach(cloud, volume, new.id)
    except CloudError:
        instances.terminate(cloud, new)
        raise
    say(f"Data volume {volume} attached; it outlives the machine", f"已挂接数据卷 {volume}，终止机器后它仍保留")
    return new


def _free(cloud: Cloud, wish: Wish, old: Instance, volume: dict[str, Any], say: Say) -> None:
    """Stop the old machine, so that its database is closed, keep a snapshot, and take the volume off."""
    if volumes.user_of(volume) != old.id:
        return
    if old.state != "stopped":
        say(f"Stopping {old.id} to move its data", f"正在停止 {old.id} 以移动数据")
        if old.spot:
            # A one-time spot machine cannot be stopped; ending it lets its services close the data first.
            instances.terminate(cloud, old, wait=True)
        else:
            instances.stop(cloud, old, wait=True)
    if not old.spot:
        volumes.detach(cloud, volume["VolumeId"], old.id)
    kept = volumes.snapshot(cloud, volume["VolumeId"], wish.name, "before-upgrade")
    say(f"Snapshot {kept} of the data is kept", f"已为数据保留快照 {kept}")


def _back(cloud: Cloud, wish: Wish, old: Instance, volume: dict[str, Any], say: Say) -> None:
    """The new machine failed: give the data back to the old one and start it again."""
    for instance in instances.all_of(cloud, wish.name):
        if instance.id != old.id:
            instances.terminate(cloud, instance, wait=True)
    now = volumes.find(cloud, wish.name)
    if old.spot or now is None:
        kept = volume["VolumeId"]
        say(f"The new machine failed; the data is on {kept}. Launch again", f"新机器失败；数据在 {kept}。请重新启动")
        return
    if volumes.user_of(now) == "":
        volumes.attach(cloud, volume["VolumeId"], old.id)
    instances.start(cloud, old)
    say(f"The new machine failed; {old.id} has its data back and starts", f"新机器失败；数据已还给 {old.id}，正在启动")
