"""Listing, cleaning up, copying, sharing and publishing images."""

from __future__ import annotations

import pytest

from danqing.cloud import images
from danqing.cloud.clients import Cloud
from tests.cloud.conftest import REGION, Emulator, make_image
from tests.cloud.test_bases import refused, run
from tests.cloud.test_launch import start

ACCOUNT = "210987654321"
ORGANISATION = "arn:aws:organizations::123456789012:organization/o-abcdefghij"


def where(aws: Emulator) -> tuple[str, ...]:
    return ("--region", REGION, "--endpoint", aws.url)


@pytest.fixture
def five(cloud: Cloud) -> list[str]:
    """Images of five days, oldest first."""
    return [make_image(cloud, f"danqing-0.{n}.0-1", f"2026-10-0{n}") for n in range(1, 6)]


def snapshots(cloud: Cloud) -> set[str]:
    return {row["SnapshotId"] for row in cloud.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}


def test_a_list_newest_first(aws: Emulator, cloud: Cloud, five: list[str]) -> None:
    lines = run("images", *where(aws)).splitlines()
    assert [line.split()[0] for line in lines] == five[::-1]


def test_a_list_of_none_says_how_to_make_one(aws: Emulator) -> None:
    assert "make ami REGION=us-east-1" in run("images", *where(aws))


def test_images_of_others_are_not_touched(aws: Emulator, cloud: Cloud) -> None:
    make_image(cloud, "somebody-elses")
    assert "nothing to remove" in run("clean", "--keep", "0", "--yes", *where(aws))


def test_cleaning_only_shows_at_first(aws: Emulator, cloud: Cloud, five: list[str]) -> None:
    before = snapshots(cloud)
    text = run("clean", "--keep", "3", *where(aws))
    assert "Nothing was removed" in text
    assert all(f"remove  {image}" in text for image in five[:2])
    assert all(f"keep    {image}" in text for image in five[2:])
    assert len(images.ours(cloud)) == 5
    assert snapshots(cloud) == before


def test_cleaning_removes_old_images_with_their_snapshots(aws: Emulator, cloud: Cloud, five: list[str]) -> None:
    gone = {snapshot for image in images.ours(cloud) if image.id in five[:2] for snapshot in image.snapshots}
    assert gone <= snapshots(cloud)
    run("clean", "--keep", "3", "--yes", *where(aws))
    assert {image.id for image in images.ours(cloud)} == set(five[2:])
    assert not gone & snapshots(cloud)


def test_an_image_that_a_machine_runs_from_stays(aws: Emulator, cloud: Cloud, five: list[str]) -> None:
    start(aws, "--image", five[0])
    text = run("clean", "--keep", "1", "--yes", *where(aws))
    assert f"keep    {five[0]}" in text
    assert {image.id for image in images.ours(cloud)} == {five[0], five[4]}


def test_snapshots_that_builds_left_go_and_backups_stay(aws: Emulator, cloud: Cloud, image: str) -> None:
    volume = cloud.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]

    def snapshot(**tags: str) -> str:
        rows = [{"Key": key.replace("_", ":"), "Value": value} for key, value in tags.items()]
        spec = [{"ResourceType": "snapshot", "Tags": rows}]
        return str(cloud.ec2.create_snapshot(VolumeId=volume, TagSpecifications=spec)["SnapshotId"])

    left, kept = snapshot(Project="danqing"), snapshot(Project="danqing", danqing_backup="danqing")
    others = snapshot(Project="something")
    run("clean", "--keep", "3", "--yes", *where(aws))
    assert left not in snapshots(cloud)
    assert {kept, others} <= snapshots(cloud)


# -- sharing --


def test_sharing_must_say_with_whom(aws: Emulator, image: str) -> None:
    error = refused("share", *where(aws))
    assert error.code == "bad_value"
    assert "ACCOUNTS" in str(error)


@pytest.mark.parametrize(
    "words",
    [
        ("--accounts", "12345"),
        ("--organisations", "o-abc"),
        ("--accounts", ACCOUNT, "--parameter", "no slash"),
    ],
)
def test_malformed_names_are_refused(aws: Emulator, image: str, words: tuple[str, ...]) -> None:
    assert refused("share", *words, *where(aws)).code == "bad_value"


def test_sharing_with_accounts_opens_image_and_snapshots(aws: Emulator, cloud: Cloud, image: str) -> None:
    run("share", "--accounts", f"{ACCOUNT},111122223333", *where(aws))
    told = cloud.ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")["LaunchPermissions"]
    assert {row["UserId"] for row in told} == {ACCOUNT, "111122223333"}
    snapshot = images.resolve(cloud).snapshots[0]
    shown = cloud.ec2.describe_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission")
    assert {row["UserId"] for row in shown["CreateVolumePermissions"]} == {ACCOUNT, "111122223333"}


def test_sharing_with_an_organisation(aws: Emulator, cloud: Cloud, image: str) -> None:
    unit = "arn:aws:organizations::123456789012:ou/o-abcdefghij/ou-ab12-11111111"
    run("share", "--organisations", f"{ORGANISATION} {unit}", *where(aws))
    told = cloud.ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")["LaunchPermissions"]
    assert {"OrganizationArn": ORGANISATION} in told
    assert {"OrganizationalUnitArn": unit} in told


def test_copies_are_shared_and_published_alike(aws: Emulator, cloud: Cloud, image: str) -> None:
    text = run("share", "--regions", "eu-west-1", "--accounts", ACCOUNT, "--parameter", images.PARAMETER, *where(aws))
    there = Cloud.at("eu-west-1", aws.url)
    copied = images.resolve(there)
    assert copied.id in text
    assert copied.id != image
    for place, wanted in ((cloud, image), (there, copied.id)):
        told = place.ec2.describe_image_attribute(ImageId=wanted, Attribute="launchPermission")["LaunchPermissions"]
        assert [row["UserId"] for row in told] == [ACCOUNT]
        assert images.resolve(place, images.PARAMETER).id == wanted


def test_a_second_copy_is_not_made(aws: Emulator, cloud: Cloud, image: str) -> None:
    for _ in range(2):
        run("share", "--regions", "eu-west-1", *where(aws))
    assert len(images.ours(Cloud.at("eu-west-1", aws.url))) == 1
    assert len(aws.requests("CopyImage")) == 1


def test_china_is_reached_by_building_there(aws: Emulator, image: str) -> None:
    error = refused("share", "--regions", "cn-north-1", *where(aws))
    assert error.code == "bad_value"
    assert "build there with make ami" in str(error)
