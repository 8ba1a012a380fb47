"""Machines that run Danqing: which there are, stopping and terminating them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from danqing.cloud import facts, volumes
from danqing.cloud.clients import Cloud, filters, tags_of
from danqing.cloud.errors import CloudError
from danqing.cloud.network import PROJECT

URL_TAG = "danqing:url"
"""Where the page is reached when not at the machine's own address."""
ALIVE = ["pending", "running", "stopping", "stopped", "shutting-down"]
WAIT = {"Delay": 3, "MaxAttempts": 200}


@dataclass(frozen=True, slots=True)
class Instance:
    """A machine as EC2 describes it."""

    id: str
    name: str
    state: str
    type: str
    zone: str
    image: str
    address: str
    url: str
    spot: bool
    launched: datetime.datetime
    reason: str

    @classmethod
    def of(cls, row: dict[str, Any]) -> Instance:
        tags = tags_of(row)
        address = row.get("PublicIpAddress") or row.get("PrivateIpAddress") or ""
        return cls(
            id=row["InstanceId"],
            name=tags.get("Name", ""),
            state=row["State"]["Name"],
            type=row["InstanceType"],
            zone=row["Placement"]["AvailabilityZone"],
            image=row["ImageId"],
            address=address,
            url=tags.get(URL_TAG) or (f"http://{address}/" if address else ""),
            spot=row.get("InstanceLifecycle") == "spot",
            launched=row["LaunchTime"],
            reason=(row.get("StateReason") or {}).get("Message", ""),
        )

    @property
    def dollars(self) -> float | None:
        """List price an hour; spot is less."""
        return next((row.dollars for row in facts.MACHINES if row.name == self.type), None)


def all_of(cloud: Cloud, name: str = "") -> list[Instance]:
    """Danqing's machines that are not gone, by name; only those of `name` where one is given."""
    wanted = filters(tag__Project=PROJECT["Project"], instance_state_name=ALIVE)
    wanted += filters(tag__Name=name) if name else []
    rows = cloud.pages("ec2", "describe_instances", "Reservations", Filters=wanted)
    found = [Instance.of(row) for reservation in rows for row in reservation["Instances"]]
    return sorted(found, key=lambda instance: (instance.name, instance.launched))


def one(cloud: Cloud, name: str) -> Instance:
    """The machine of that name or id; of several, the newest that is not shutting down.

    Raises:
        CloudError: `no_instance`.
    """
    found = [row for row in all_of(cloud) if name in (row.name, row.id) and row.state != "shutting-down"]
    if not found:
        raise CloudError("no_instance", name=name, region=cloud.region)
    return max(found, key=lambda row: row.launched)


def fresh(cloud: Cloud, instance: str) -> Instance:
    """One machine asked again."""
    with cloud.told():
        rows = cloud.ec2.describe_instances(InstanceIds=[instance])["Reservations"]
    return Instance.of(rows[0]["Instances"][0])


def stop(cloud: Cloud, instance: Instance, wait: bool = False) -> None:
    """Stop it: disks stay and cost, the machine does not. The jobs that it was drawing are drawn at the next start.

    Raises:
        CloudError: `spot_stop`, `protected`.
    """
    if instance.spot:
        raise CloudError("spot_stop", instance=instance.id, name=instance.name)
    with cloud.told():
        cloud.ec2.stop_instances(InstanceIds=[instance.id])
        if wait:
            cloud.ec2.get_waiter("instance_stopped").wait(InstanceIds=[instance.id], WaiterConfig=WAIT)


def start(cloud: Cloud, instance: Instance) -> None:
    """Start a stopped machine."""
    with cloud.told(instance_type=instance.type, zones=instance.zone, other=facts.other_than(instance.type)):
        cloud.ec2.start_instances(InstanceIds=[instance.id])


def terminate(cloud: Cloud, instance: Instance, wait: bool = False) -> None:
    """End it for good; its own disk goes, a data volume stays."""
    with cloud.told():
        cloud.ec2.terminate_instances(InstanceIds=[instance.id])
        if wait:
            cloud.ec2.get_waiter("instance_terminated").wait(InstanceIds=[instance.id], WaiterConfig=WAIT)


def data_volume(cloud: Cloud, instance: Instance) -> dict[str, Any] | None:
    """The data volume of the machine's name, attached or not."""
    return volumes.find(cloud, instance.name)
