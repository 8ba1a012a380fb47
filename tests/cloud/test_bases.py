"""Base images: found, old, gone, refused; and the plan, which asks nobody."""

from __future__ import annotations

import dataclasses
import datetime
import json
import socket

import pytest
from typer.testing import CliRunner

from danqing.cloud import bases, cli, plan
from danqing.cloud.bases import BASES, base
from danqing.cloud.clients import Cloud
from danqing.cloud.errors import CloudError
from tests.cloud.conftest import Emulator

TODAY = datetime.date(2026, 11, 24)
FOCAL = "focal-pytorch-1.13"


def run(*words: str) -> str:
    """Output of a command that must succeed."""
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def refused(*words: str) -> CloudError:
    """The error of a command that must fail."""
    done = CliRunner().invoke(cli.app, words)
    assert isinstance(done.exception, CloudError), (done.output, done.exception)
    return done.exception


def test_the_default_is_the_agreed_one() -> None:
    assert bases.DEFAULT_BASE == FOCAL
    assert base(FOCAL).title == "Deep Learning AMI GPU PyTorch 1.13.1 (Ubuntu 20.04)"
    assert base(bases.SUPPORTED_BASE).system_ends > TODAY


def test_of_several_the_newest_is_found(cloud: Cloud) -> None:
    assert bases.find(cloud, base(FOCAL)).image == "ami-0f0ca100000000002"
    assert bases.find(cloud, base("noble-pytorch")).image == "ami-0b1e00000000000a1"


def test_an_arm_image_is_never_found(cloud: Cloud) -> None:
    cloud.ec2.deregister_image(ImageId="ami-0b1e00000000000a1")
    cloud.ec2.deregister_image(ImageId="ami-0b1e00000000000a2")
    with pytest.raises(CloudError) as error:
        bases.find(cloud, base("noble-pytorch"))
    assert error.value.code == "base_gone"
    assert "BASE=noble-lean" in str(error.value)


def test_a_parameter_goes_before_the_name(cloud: Cloud) -> None:
    """AWS's own names begin with /aws, where nobody else may write: another name stands for one of them."""
    named = dataclasses.replace(base("noble-pytorch"), parameter="/test/base")
    assert bases.find(cloud, named).image == "ami-0b1e00000000000a1"
    cloud.client("ssm").put_parameter(Name="/test/base", Value="ami-0b1e00000000000a2", Type="String")
    assert bases.find(cloud, named).image == "ami-0b1e00000000000a2"


def test_deprecated_images_are_asked_for(aws: Emulator, cloud: Cloud) -> None:
    bases.find(cloud, base(FOCAL))
    assert all(form["IncludeDeprecated"] == "true" for form in aws.requests("DescribeImages"))


def test_what_an_old_base_means_is_said(aws: Emulator) -> None:
    text = run("check-base", "--base", FOCAL, "--region", "us-east-1", "--endpoint", aws.url)
    assert "ami-0f0ca100000000002" in text
    assert "2025-05-31" in text
    assert "Marketplace refuses" in text
    assert "make ami BASE=noble-pytorch REGION=us-east-1" in text


def test_a_deprecated_base_is_said_to_be(cloud: Cloud) -> None:
    found = bases.find(cloud, base(FOCAL))
    old = bases.Found(found.base, found.region, found.image, found.name, found.created, datetime.date(2025, 8, 18))
    assert any("deprecated" in en and "弃用" in zh for en, zh in old.notes(TODAY))
    assert not any("deprecated" in en for en, _ in found.notes(TODAY))


def test_a_fresh_base_needs_no_words(aws: Emulator, cloud: Cloud) -> None:
    assert bases.find(cloud, base("noble-pytorch")).notes(TODAY) == []


def test_a_base_that_is_gone_names_the_command(aws: Emulator, cloud: Cloud) -> None:
    for row in cloud.ec2.describe_images(Filters=[{"Name": "name", "Values": ["*1.13.1*"]}])["Images"]:
        cloud.ec2.deregister_image(ImageId=row["ImageId"])
    error = refused("check-base", "--region", "us-east-1", "--endpoint", aws.url)
    assert error.code == "base_gone"
    assert error.status == 2
    assert str(error).endswith("make ami BASE=noble-pytorch REGION=us-east-1")
    assert error.text("zh").endswith("make ami BASE=noble-pytorch REGION=us-east-1")


def test_marketplace_refuses_an_old_system_without_asking_aws(aws: Emulator) -> None:
    error = refused("check-base", "--marketplace", "--region", "us-east-1", "--endpoint", aws.url)
    assert error.code == "base_not_for_market"
    assert "make ami BASE=noble-pytorch REGION=us-east-1 MARKETPLACE=1" in str(error)
    assert aws.requests("DescribeImages") == []


def test_marketplace_refuses_an_old_image_of_a_supported_system(cloud: Cloud) -> None:
    later = datetime.date(2028, 12, 1)
    with pytest.raises(CloudError) as error:
        bases.check(cloud, "noble-pytorch", True, later)
    assert "older than 2 years" in str(error.value)
    assert bases.check(cloud, "noble-pytorch", True, TODAY).image == "ami-0b1e00000000000a1"


def test_an_unknown_base_names_the_known(aws: Emulator) -> None:
    error = refused("check-base", "--base", "windows", "--endpoint", aws.url)
    assert error.code == "unknown_base"
    assert all(row.name in str(error) for row in BASES)


def test_json_is_for_programs(aws: Emulator) -> None:
    found = json.loads(run("check-base", "--json", "--base", "noble-pytorch", "--endpoint", aws.url))
    assert found["image"] == "ami-0b1e00000000000a1"
    assert {row["name"] for row in json.loads(run("bases", "--json"))} == {row.name for row in BASES}


# -- offline --


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the plan asked somebody")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("offline")
def test_the_plan_asks_nobody() -> None:
    text = run("plan", "--regions", "eu-west-1,eu-central-1", "--accounts", "123456789012")
    assert "Deep Learning AMI GPU PyTorch 1.13.1 (Ubuntu 20.04)" in text
    assert "eu-west-1, eu-central-1" in text
    assert "a month" in text
    assert "past its support" in text


@pytest.mark.usefixtures("offline")
def test_china_is_another_world(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ICP" in run("plan", "--region", "cn-north-1")
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    monkeypatch.delenv("LC_ALL", raising=False)
    text = run("plan", "--region", "cn-northwest-1", "--base", "noble-lean")
    assert "备案" in text
    assert "支持已于" not in text
    assert base("noble-lean").owner_in("aws-cn") == "837727238323"


def test_a_plan_adds_up() -> None:
    one = plan.Plan(base("noble-lean"), "us-east-1", (), (), False, False)
    more = plan.Plan(base("noble-lean"), "us-east-1", ("eu-west-1", "ap-east-1"), (), False, True)
    assert more.monthly() == pytest.approx(3 * one.monthly())
    assert more.dollars()[0] < one.dollars()[0] < one.dollars()[1]
    assert more.minutes()[1] == one.minutes()[1] + 2 * plan.COPY.high


@pytest.mark.parametrize("region", ["", "moon", "us-east", "us-east-1; rm", "US-EAST-1"])
def test_no_region_of_that_name(region: str) -> None:
    assert refused("plan", "--region", region).code == "unknown_region"


def test_types_have_price_and_speed() -> None:
    text = run("types")
    assert all(name in text for name in ("g4dn.xlarge", "g5.2xlarge", "g6.xlarge", "T4", "A10G", "L4"))
