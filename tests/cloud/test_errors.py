"""Whatever AWS refuses, the sentence says what to do. The errors come over HTTP, as AWS writes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from danqing.cloud import errors
from danqing.cloud.clients import Cloud
from danqing.cloud.errors import KINDS, CloudError
from tests.cloud.conftest import REGION, Emulator
from tests.cloud.test_bases import refused, run
from tests.cloud.test_launch import only, trouble

ARCHITECTURE = (
    "The architecture 'arm64,arm64_mac' of the specified instance type does not match the architecture 'x86_64' of the "
    "specified AMI. Specify an instance type and an AMI that have matching architectures, and try again."
)
NOT_OFFERED = (
    "Your requested instance type (g5.xlarge) is not supported in your requested Availability Zone (us-east-1e)."
)


@pytest.mark.parametrize(
    ("code", "message", "ours", "says"),
    [
        ("VcpuLimitExceeded", "0 vCPU", "quota", "--quota-code L-DB2E81BA"),
        ("MaxSpotInstanceCountExceeded", "Max spot", "quota", "--quota-code L-3819A6DF"),
        ("InsufficientInstanceCapacity", "no room", "no_capacity", "us-east-1a, us-east-1b"),
        ("SpotMaxPriceTooLow", "too low", "spot_price", "g5.xlarge"),
        ("Unsupported", NOT_OFFERED, "type_not_here", "g4dn.xlarge"),
        ("InvalidParameterValue", ARCHITECTURE, "wrong_architecture", "x86-64"),
        ("InvalidKeyPair.NotFound", "no", "key_missing", "mine"),
        ("InvalidAMIID.NotFound", "no", "image_missing", "make images"),
        ("OptInRequired", "accept terms", "subscribe", "Marketplace"),
        ("PendingVerification", "validating", "account_waiting", "four hours"),
        ("ExpiredToken", "expired", "expired", "aws sso login"),
        ("RequestExpired", "expired", "expired", "aws sso login"),
        ("AuthFailure", "bad keys", "refused_credentials", "clock"),
        ("UnauthorizedOperation", "no", "not_allowed", "RunInstances"),
        ("RequestLimitExceeded", "slow down", "slow", "Wait a minute"),
        ("SomethingNew", "Odd things happen.", "aws", "Odd things happen (SomethingNew)."),
    ],
)
def test_launching_fails(
    aws: Emulator, cloud: Cloud, image: str, code: str, message: str, ours: str, says: str
) -> None:
    cloud.ec2.create_key_pair(KeyName="mine")
    aws.fail("RunInstances", code, message)
    error = trouble(aws, "--key", "mine")
    assert error.code == ours
    assert says in str(error)
    assert "?" not in str(error)
    assert re.search(r"[\u4e00-\u9fff]", error.text("zh"))
    assert error.status in (1, 2)


def test_another_zone_is_tried_when_one_is_full(aws: Emulator, cloud: Cloud, image: str) -> None:
    aws.fail("RunInstances", "InsufficientInstanceCapacity", times=2)
    text = run("launch", "--region", REGION, "--endpoint", aws.url, "--minutes", "0")
    assert "no room in us-east-1a" in text
    assert "no room in us-east-1b" in text
    assert only(cloud).zone == "us-east-1c"


def test_a_role_that_is_not_known_everywhere_yet_is_waited_for(
    aws: Emulator, cloud: Cloud, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from danqing.cloud import launch

    monkeypatch.setattr(launch, "PROFILE_WAIT", 0.01)
    message = "Value (danqing-box) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
    aws.fail("RunInstances", "InvalidParameterValue", message, times=3)
    run("launch", "--region", REGION, "--endpoint", aws.url, "--minutes", "0")
    assert only(cloud).state == "running"


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("DescribeImages", ("check-base",)),
        ("DescribeImages", ("images",)),
        ("DescribeImages", ("clean",)),
        ("DescribeImages", ("share", "--accounts", "210987654321")),
        ("ModifyImageAttribute", ("share", "--accounts", "210987654321")),
        ("PutParameter", ("share", "--parameter", "/danqing/x")),
        ("CopyImage", ("share", "--regions", "eu-west-1")),
        ("DescribeInstances", ("status",)),
        ("DescribeInstances", ("stop",)),
        ("DescribeInstances", ("terminate", "--yes")),
        ("DescribeSubnets", ("launch",)),
        ("CreateSecurityGroup", ("launch",)),
        ("GetInstanceProfile", ("launch",)),
        ("CreateRole", ("launch",)),
        ("DescribeInstanceTypeOfferings", ("launch",)),
        ("CreateVolume", ("launch", "--data", "10")),
    ],
)
def test_expired_credentials_and_missing_rights_in_every_command(
    aws: Emulator, image: str, action: str, words: tuple[str, ...]
) -> None:
    where = (*words, "--region", REGION, "--endpoint", aws.url, *(("--minutes", "0") if words[0] == "launch" else ()))
    aws.fail(action, "ExpiredTokenException" if action == "PutParameter" else "ExpiredToken")
    assert refused(*where).code == "expired"
    aws.fail(action, "AccessDeniedException")
    error = refused(*where)
    assert error.code == "not_allowed"
    assert action in str(error)


def test_half_a_role_is_finished(aws: Emulator, cloud: Cloud, image: str) -> None:
    """An earlier run was cut off between making the profile and giving it its role."""
    cloud.client("iam").create_instance_profile(InstanceProfileName="danqing-box")
    run("launch", "--region", REGION, "--endpoint", aws.url, "--minutes", "0")
    found = cloud.client("iam").get_instance_profile(InstanceProfileName="danqing-box")["InstanceProfile"]
    assert [role["RoleName"] for role in found["Roles"]] == ["danqing-box"]


def test_a_machine_that_aws_ends_at_once(
    aws: Emulator, cloud: Cloud, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from danqing.cloud import launch

    run("launch", "--region", REGION, "--endpoint", aws.url, "--minutes", "0")
    instance = only(cloud)
    cloud.ec2.terminate_instances(InstanceIds=[instance.id])
    with pytest.raises(CloudError) as error:
        launch._running(cloud, instance)
    assert error.value.code == "stopped_early"
    assert "User initiated" in str(error.value)


def test_no_credentials(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused("status", "--region", REGION, "--endpoint", "https://ec2.us-east-1.amazonaws.com")
    assert error.code == "no_credentials"
    assert "aws configure" in str(error)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    error = refused("status", "--region", REGION)
    assert error.code == "no_profile"
    assert "nobody" in str(error)


def test_nobody_answers(aws: Emulator) -> None:
    error = refused("status", "--region", REGION, "--endpoint", "http://127.0.0.1:9")
    assert error.code == "no_endpoint"
    assert "127.0.0.1:9" in str(error)


def test_somebody_else_answers(aws: Emulator) -> None:
    from tests.cloud.page import box

    with box((200, {"hello": 1})) as page, pytest.raises(CloudError):
        Cloud.at(REGION, f"http://{page}").pages("ec2", "describe_instances", "Reservations")


def test_the_region_of_the_environment_counts(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert Cloud.at("", aws.url).region == "eu-central-1"
    monkeypatch.setenv("AWS_REGION", "mars")
    with pytest.raises(CloudError, match="mars"):
        Cloud.at("", aws.url)


def test_no_default_network(aws: Emulator, cloud: Cloud, image: str) -> None:
    for subnet in cloud.ec2.describe_subnets()["Subnets"]:
        cloud.ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    error = trouble(aws)
    assert error.code == "no_network"
    assert "create-default-vpc" in str(error)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.code)
def test_both_languages_have_the_same_fields(kind: errors.ErrorKind) -> None:
    fields = [sorted(set(re.findall(r"\{(\w+)\}", text))) for text in (kind.en, kind.zh)]
    assert fields[0] == fields[1]
    assert re.search(r"[\u4e00-\u9fff]{2}", kind.zh)


def test_every_code_that_is_mapped_has_a_sentence() -> None:
    assert set(errors._PLAIN.values()) <= set(KINDS)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("HTTPS_PROXY", "http://127.0.0.1:9", "no_endpoint"),
        ("HTTPS_PROXY", "nowhere:xx", "no_endpoint"),
        ("AWS_ENDPOINT_URL", "nonsense", "bad_setup"),
        ("AWS_CONFIG_FILE", "{broken}", "bad_setup"),
    ],
)
def test_base_is_looked_for_without_a_network(
    aws: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, code: str
) -> None:
    (tmp_path / "broken").write_text("[default\nfoo")
    value = value.format(broken=tmp_path / "broken")
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "x")
    for key in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv(name, value)
    error = refused("check-base", "--region", REGION)
    assert error.code == code
    assert error.text("zh") != error.text("en")
    assert value.removeprefix("http://") in str(error)
