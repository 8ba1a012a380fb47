"""Status, stop, start, terminate."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from danqing.cloud import cli, instances, volumes
from danqing.cloud.clients import Cloud
from tests.cloud.conftest import REGION, Emulator
from tests.cloud.page import READY, STARTING, box
from tests.cloud.test_bases import refused, run
from tests.cloud.test_launch import only, start


def where(aws: Emulator) -> tuple[str, ...]:
    return ("--region", REGION, "--endpoint", aws.url)


def test_status_of_nothing(aws: Emulator) -> None:
    assert "No box in us-east-1" in run("status", *where(aws))
    assert refused("status", "--name", "x", *where(aws)).code == "no_instance"


def test_status_says_state_cost_readiness_and_data(aws: Emulator, cloud: Cloud, image: str) -> None:
    start(aws, "--data", "20")
    start(aws, "--name", "second", "--spot", "--type", "g4dn.xlarge")
    with box(READY) as page:
        aws.page = page
        text = run("status", *where(aws))
    assert f"ready at http://{page}/" in text
    assert "$1.006/h" in text
    assert "$0.526/h" in text
    assert "spot, running" in text
    assert "vol-" in text
    with box(STARTING) as page:
        aws.page = page
        assert "starting (torch)" in run("status", "--name", "danqing", *where(aws))


def test_machines_of_others_are_not_ours(aws: Emulator, cloud: Cloud, image: str) -> None:
    cloud.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="g5.xlarge")
    assert "No box" in run("status", *where(aws))
    assert refused("stop", *where(aws)).code == "no_instance"


def test_stop_and_start(aws: Emulator, cloud: Cloud, image: str) -> None:
    start(aws)
    assert "its disks stay" in run("stop", *where(aws))
    assert only(cloud).state == "stopped"
    with box(STARTING, READY) as page:
        aws.page = page
        assert f"The page: http://{page}/" in run("start", *where(aws))
    assert only(cloud).state == "running"


def test_a_spot_machine_cannot_be_stopped(aws: Emulator, cloud: Cloud, image: str) -> None:
    start(aws, "--spot")
    error = refused("stop", *where(aws))
    assert error.code == "spot_stop"
    assert "make terminate NAME=danqing" in str(error)


@pytest.mark.parametrize(("answer", "ends"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_terminate_asks(aws: Emulator, cloud: Cloud, image: str, answer: str, ends: bool) -> None:
    start(aws)
    done = CliRunner().invoke(cli.app, ["terminate", *where(aws)], input=answer)
    assert "its pictures are DELETED" in done.output
    assert (done.exit_code == 0) == ends
    assert (instances.all_of(cloud) == []) == ends


def test_terminate_says_that_the_data_stays_and_it_does(aws: Emulator, cloud: Cloud, image: str) -> None:
    start(aws, "--data", "20")
    assert "stays" in run("terminate", "--yes", *where(aws))
    assert volumes.find(cloud, "danqing") is not None


def test_the_data_goes_only_when_asked(aws: Emulator, cloud: Cloud, image: str) -> None:
    start(aws, "--data", "20")
    text = run("terminate", "--yes", "--with-data", *where(aws))
    assert "every picture on it are DELETED" in text
    assert volumes.find(cloud, "danqing") is None


def test_by_id_too(aws: Emulator, cloud: Cloud, image: str) -> None:
    start(aws)
    start(aws, "--name", "second")
    run("terminate", "--yes", "--name", only(cloud, "second").id, *where(aws))
    assert [row.name for row in instances.all_of(cloud)] == ["danqing"]


def test_a_protected_machine_stays(aws: Emulator, cloud: Cloud, image: str) -> None:
    start(aws)
    aws.fail(
        "TerminateInstances",
        "OperationNotPermitted",
        "The instance may not be terminated. Modify its 'disableApiTermination' instance attribute: termination protection",
    )
    assert refused("terminate", "--yes", *where(aws)).code == "protected"
