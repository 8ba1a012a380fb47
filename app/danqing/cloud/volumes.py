"""The data volume: a disk apart from the machine, found by its tag, that outlives it and moves to the next one."""

from __future__ import annotations

from typing import Any

from danqing.cloud.clients import Cloud, filters, tag_list, tags_of
from danqing.cloud.errors import CloudError
from danqing.cloud.network import PROJECT

TAG = "danqing:data"
DEVICE = "/dev/sdf"
WAIT = {"Delay": 2, "MaxAttempts": 150}


def find(cloud: Cloud, name: str) -> dict[str, Any] | None:
    """The data volume of the box `name`; its description as EC2 gives it."""
    with cloud.told():
        rows = cloud.ec2.describe_volumes(Filters=filters(**{f"tag__{TAG}": name}))["Volumes"]
    alive = [row for row in rows if row["State"] in ("available", "in-use", "creating")]
    return max(alive, key=lambda row: str(row["CreateTime"]), default=None)


def create(cloud: Cloud, name: str, zone: str, size_gb: int, kms_key: str = "") -> str:
    """A new encrypted gp3 volume; its id when it can be attached."""
    with cloud.told():
        made = cloud.ec2.create_volume(
            AvailabilityZone=zone,
            Size=size_gb,
            VolumeType="gp3",
            Encrypted=True,
            **({"KmsKeyId": kms_key} if kms_key else {}),
            TagSpecifications=[
                {"ResourceType": "volume", "Tags": tag_list({**PROJECT, TAG: name, "Name": f"danqing-{name}-data"})}
            ],
        )
        cloud.ec2.get_waiter("volume_available").wait(VolumeIds=[made["VolumeId"]], WaiterConfig=WAIT)
    return str(made["VolumeId"])


def attach(cloud: Cloud, volume: str, instance: str) -> None:
    """Attach to a running machine; it stays when the machine is terminated."""
    with cloud.told(volume=volume, instance=instance):
        cloud.ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device=DEVICE)
        cloud.ec2.get_waiter("volume_in_use").wait(VolumeIds=[volume], WaiterConfig=WAIT)


def detach(cloud: Cloud, volume: str, instance: str) -> None:
    """Take it off a stopped machine and wait until it is free."""
    with cloud.told(volume=volume):
        cloud.ec2.detach_volume(VolumeId=volume, InstanceId=instance)
        cloud.ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig=WAIT)


def user_of(volume: dict[str, Any]) -> str:
    """The machine that it is attached to, "" when it is free."""
    return next((str(row["InstanceId"]) for row in volume.get("Attachments", ()) if row.get("InstanceId")), "")


def check_free(volume: dict[str, Any]) -> None:
    """
    Raises:
        CloudError: `volume_busy`.
    """
    if instance := user_of(volume):
        raise CloudError("volume_busy", volume=volume["VolumeId"], instance=instance)


def snapshot(cloud: Cloud, volume: str, name: str, why: str) -> str:
    """Begin a snapshot of a data volume that is not being written; its id. What is written later is not in it."""
    tags = {**PROJECT, "danqing:backup": name, "Name": f"danqing-{name}-{why}"}
    with cloud.told(volume=volume):
        made = cloud.ec2.create_snapshot(
            VolumeId=volume,
            Description=f"Danqing data of {name}: {why}",
            TagSpecifications=[{"ResourceType": "snapshot", "Tags": tag_list(tags)}],
        )
    return str(made["SnapshotId"])


def delete(cloud: Cloud, volume: str) -> None:
    with cloud.told(volume=volume):
        cloud.ec2.delete_volume(VolumeId=volume)


def summary(volume: dict[str, Any]) -> str:
    """`vol-1 (100 GiB, us-east-1a)`."""
    name = tags_of(volume).get(TAG, "")
    return f"{volume['VolumeId']} ({volume['Size']} GiB, {volume['AvailabilityZone']}{', ' + name if name else ''})"
