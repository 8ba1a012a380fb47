"""Our images: finding, listing, cleaning up, sharing, copying, publishing."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from danqing.cloud import instances
from danqing.cloud.clients import Cloud, filters, tag_list, tags_of
from danqing.cloud.errors import CloudError
from danqing.cloud.network import PROJECT

NAME = "danqing-*"
UBUNTU = "ubuntu"
PARAMETER = "/danqing/ami/latest"
COPY_WAIT = {"Delay": 15, "MaxAttempts": 240}
"""Copying tens of gigabytes to another continent takes up to an hour."""

ACCOUNT = re.compile(r"^\d{12}$")
ORGANISATION = re.compile(r"^arn:aws[\w-]*:organizations::\d{12}:(organization|ou)/o-[\w-]+(/ou-[\w-]+)?$")


@dataclass(frozen=True, slots=True)
class Image:
    """An image of ours."""

    id: str
    name: str
    state: str
    architecture: str
    created: datetime.datetime
    snapshots: tuple[str, ...]
    gigabytes: int
    root: str
    """Name of the root device."""
    root_gb: int
    tags: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, row: dict[str, Any]) -> Image:
        root = row.get("RootDeviceName") or "/dev/sda1"
        mapped = [disk for disk in row.get("BlockDeviceMappings", ()) if disk.get("Ebs")]
        disks = [disk["Ebs"] for disk in mapped]
        return cls(
            row["ImageId"],
            row.get("Name", ""),
            row["State"],
            row.get("Architecture", "x86_64"),
            datetime.datetime.fromisoformat(row["CreationDate"].replace("Z", "+00:00")),
            tuple(disk["SnapshotId"] for disk in disks if disk.get("SnapshotId")),
            sum(disk.get("VolumeSize", 0) for disk in disks),
            root,
            next((disk["Ebs"].get("VolumeSize", 0) for disk in mapped if disk["DeviceName"] == root), 0),
            tags_of(row),
        )


def ours(cloud: Cloud) -> list[Image]:
    """Images of this account named danqing-…, newest first."""
    with cloud.told():
        rows = cloud.ec2.describe_images(Owners=["self"], IncludeDeprecated=True, Filters=filters(name=NAME))["Images"]
    return sorted(map(Image.of, rows), key=lambda image: image.created, reverse=True)


def resolve(cloud: Cloud, wanted: str = "") -> Image:
    """The image to launch: `ami-…`, an SSM parameter's (`/…`), or the newest of ours.

    Raises:
        CloudError: `no_image`, `image_missing`, `image_not_ready`.
    """
    if not wanted:
        found = ours(cloud)
        if not found:
            raise CloudError("no_image", region=cloud.region)
        return _ready(next((image for image in found if image.state == "available"), found[0]))
    if wanted.startswith("/"):
        wanted = _parameter(cloud, wanted)
    with cloud.told(image=wanted):
        rows = cloud.ec2.describe_images(ImageIds=[wanted], IncludeDeprecated=True)["Images"]
    if not rows:
        raise CloudError("image_missing", image=wanted, region=cloud.region)
    return _ready(Image.of(rows[0]))


def login_of(cloud: Cloud, image: str) -> str:
    """Name of the user that a key pair opens: the base's, written down at the bake; Ubuntu's where nothing is known."""
    with contextlib.suppress(CloudError), cloud.told():
        rows = cloud.ec2.describe_images(ImageIds=[image], IncludeDeprecated=True)["Images"]
        return tags_of(rows[0]).get("danqing:user", UBUNTU) if rows else UBUNTU
    return UBUNTU


def _ready(image: Image) -> Image:
    if image.state != "available":
        raise CloudError("image_not_ready", image=image.id, state=image.state)
    return image


def _parameter(cloud: Cloud, name: str) -> str:
    with cloud.told():
        found = cloud.client("ssm").get_parameters(Names=[name])["Parameters"]
    if not found:
        raise CloudError("image_missing", image=name, region=cloud.region)
    return str(found[0]["Value"])


# -- cleaning up --


@dataclass(frozen=True, slots=True)
class Rubbish:
    """What `clean` would remove: images with their snapshots, and snapshots that no image has any more."""

    images: tuple[Image, ...]
    snapshots: tuple[str, ...]
    kept: tuple[tuple[Image, str], ...]
    """Images that stay, each with the reason."""

    @property
    def gigabytes(self) -> int:
        return sum(image.gigabytes for image in self.images)


def rubbish(cloud: Cloud, keep: int) -> Rubbish:
    """Images beyond the newest `keep`, except those that a machine runs from; snapshots that builds left behind."""
    found = ours(cloud)
    used = {instance.image for instance in instances.all_of(cloud)}
    reasons = [
        (image, "newest" if place < keep else "in use" if image.id in used else "") for place, image in enumerate(found)
    ]
    old = tuple(image for image, reason in reasons if not reason)
    with cloud.told():
        rows = cloud.ec2.describe_snapshots(OwnerIds=["self"], Filters=filters(tag__Project=PROJECT["Project"]))[
            "Snapshots"
        ]
    with_image = {snapshot for image in found for snapshot in image.snapshots}
    orphans = tuple(
        row["SnapshotId"]
        for row in rows
        if row["SnapshotId"] not in with_image and "danqing:backup" not in tags_of(row)
    )
    return Rubbish(old, orphans, tuple((image, reason) for image, reason in reasons if reason))


def remove(cloud: Cloud, found: Rubbish) -> None:
    """Deregister the images and delete the snapshots of `found`."""
    for image in found.images:
        with cloud.told(what=image.id, image=image.id):
            cloud.ec2.deregister_image(ImageId=image.id)
    for snapshot in (*(snapshot for image in found.images for snapshot in image.snapshots), *found.snapshots):
        with cloud.told(what=snapshot):
            _delete_snapshot(cloud, snapshot)


def _delete_snapshot(cloud: Cloud, snapshot: str) -> None:
    from botocore.exceptions import ClientError

    try:
        cloud.ec2.delete_snapshot(SnapshotId=snapshot)
    except ClientError as error:
        # Gone with its image already, as some emulators and the newer DeregisterImage do.
        if error.response["Error"]["Code"] != "InvalidSnapshot.NotFound":
            raise


# -- sharing --


def check_sharing(accounts: Sequence[str], organisations: Sequence[str]) -> None:
    """
    Raises:
        CloudError: `bad_value`.
    """
    for account in accounts:
        if not ACCOUNT.match(account):
            raise CloudError("bad_value", field="ACCOUNTS", value=account, reason="an account has twelve digits")
    for arn in organisations:
        if not ORGANISATION.match(arn):
            reason = "arn:aws:organizations::ACCOUNT:organization/o-… or …:ou/o-…/ou-…"
            raise CloudError("bad_value", field="ORGANISATIONS", value=arn, reason=reason)


def copy(cloud: Cloud, image: Image, region: str) -> Cloud:
    """Copy the image to another region and wait; a cloud of that region. An image of that name there is left as it is.

    Raises:
        CloudError: `bad_value` for a region of another partition.
    """
    there = Cloud.at(region, cloud.endpoint)
    if there.partition.name != cloud.partition.name:
        reason = (
            f"images cannot be copied from {cloud.partition.name} to {there.partition.name}; build there with make ami"
        )
        raise CloudError("bad_value", field="REGIONS", value=region, reason=reason)
    if any(other.name == image.name for other in ours(there)):
        return there
    with there.told(image=image.id):
        made = there.ec2.copy_image(
            Name=image.name,
            SourceImageId=image.id,
            SourceRegion=cloud.region,
            Description=f"Copied from {image.id} in {cloud.region}",
        )["ImageId"]
        there.ec2.create_tags(Resources=[made], Tags=tag_list({**PROJECT, **image.tags}))
        there.ec2.get_waiter("image_available").wait(ImageIds=[made], WaiterConfig=COPY_WAIT)
    return there


def share(cloud: Cloud, image: Image, accounts: Sequence[str], organisations: Sequence[str]) -> None:
    """Let other accounts launch the image, and read its snapshots so that they can copy it."""
    wanted = [{"UserId": account} for account in accounts]
    kinds = {"organization": "OrganizationArn", "ou": "OrganizationalUnitArn"}
    wanted += [{kinds[arn.split(":")[5].split("/")[0]]: arn} for arn in organisations]
    with cloud.told(image=image.id):
        cloud.ec2.modify_image_attribute(
            ImageId=image.id, Attribute="launchPermission", LaunchPermission={"Add": wanted}
        )
        for snapshot in image.snapshots if accounts else ():
            cloud.ec2.modify_snapshot_attribute(
                SnapshotId=snapshot,
                Attribute="createVolumePermission",
                OperationType="add",
                UserIds=list(accounts),
            )


def publish(cloud: Cloud, image: Image, parameter: str = PARAMETER) -> None:
    """Write the image's id into an SSM parameter, which launch templates and CloudFormation read."""
    if not re.match(r"^/[\w./-]+$", parameter):
        raise CloudError("bad_value", field="PARAMETER", value=parameter, reason=f"a name such as {PARAMETER}")
    with cloud.told():
        cloud.client("ssm").put_parameter(
            Name=parameter, Value=image.id, Type="String", DataType="aws:ec2:image", Overwrite=True
        )
