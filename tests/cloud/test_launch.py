"""Launching, against a real server that plays AWS: what is asked of it, what is said, what goes wrong."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from danqing.cloud import cli, instances, launch, network, volumes
from danqing.cloud.clients import Cloud, filters, tags_of
from danqing.cloud.errors import CloudError
from tests.cloud.conftest import REGION, Emulator, make_image
from tests.cloud.page import READY, STARTING, box
from tests.cloud.test_bases import refused, run

MINE = "203.0.113.7"


def start(aws: Emulator, *words: str) -> str:
    """Launch without waiting for a page."""
    where = ("--region", REGION, "--endpoint", aws.url, "--minutes", "0")
    return run("launch", "--cidr", MINE, *where, *words)


def trouble(aws: Emulator, *words: str) -> CloudError:
    return refused("launch", "--cidr", MINE, "--region", REGION, "--endpoint", aws.url, "--minutes", "0", *words)


def only(cloud: Cloud, name: str = "danqing") -> instances.Instance:
    found = instances.all_of(cloud, name)
    assert len(found) == 1, found
    return found[0]


# -- what is launched --


def test_a_launch_is_asked_for_as_documented(aws: Emulator, cloud: Cloud, image: str) -> None:
    aws.asked.clear()
    start(aws)
    form = aws.requests("RunInstances")[0]
    assert form["ImageId"] == image
    assert form["InstanceType"] == "g5.xlarge"
    assert form["MetadataOptions.HttpTokens"] == "required"
    assert form["MetadataOptions.HttpPutResponseHopLimit"] == "1"
    assert form["BlockDeviceMapping.1.Ebs.VolumeType"] == "gp3"
    assert form["BlockDeviceMapping.1.Ebs.VolumeInitializationRate"] == "300"
    assert form["IamInstanceProfile.Name"] == "danqing-box"
    assert "KeyName" not in form
    assert not [name for name in form if name.startswith("InstanceMarketOptions")]
    row = cloud.ec2.describe_instances(InstanceIds=[only(cloud).id])["Reservations"][0]["Instances"][0]
    assert tags_of(row) == {"Project": "danqing", "Name": "danqing", "danqing:image": image}


def test_the_firewall_lets_in_whom_it_should_and_nobody_else(aws: Emulator, cloud: Cloud, image: str) -> None:
    start(aws)
    group = cloud.ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["danqing-danqing"]}])
    rules = group["SecurityGroups"][0]["IpPermissions"]
    opened = {(rule["FromPort"], rule["ToPort"], net["CidrIp"]) for rule in rules for net in rule["IpRanges"]}
    assert opened == {(80, 80, "203.0.113.7/32"), (443, 443, "203.0.113.7/32")}


def test_another_launch_closes_what_was_open(aws: Emulator, cloud: Cloud, image: str) -> None:
    start(aws)
    run("terminate", "--yes", "--region", REGION, "--endpoint", aws.url)
    key = cloud.ec2.create_key_pair(KeyName="mine")["KeyName"]
    text = start(aws, "--key", key, "--ssh-cidr", "198.51.100.0/24")
    assert "ssh ubuntu@" in text
    cloud.ec2.create_tags(Resources=[image], Tags=[{"Key": "danqing:user", "Value": "admin"}])
    run("terminate", "--yes", "--region", REGION, "--endpoint", aws.url)
    assert "ssh admin@" in start(aws, "--key", key, "--ssh-cidr", "198.51.100.0/24")
    group = cloud.ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["danqing-danqing"]}])
    rules = group["SecurityGroups"][0]["IpPermissions"]
    opened = {(rule["FromPort"], net["CidrIp"]) for rule in rules for net in rule["IpRanges"]}
    assert opened == {(80, "203.0.113.7/32"), (443, "203.0.113.7/32"), (22, "198.51.100.0/24")}


@pytest.mark.parametrize(
    "more",
    [
        {"IpRanges": [{"CidrIp": "203.0.113.7/32"}], "FromPort": 80, "ToPort": 65535},
        {"IpRanges": [{"CidrIp": "203.0.113.7/32"}], "FromPort": 80, "ToPort": 80, "IpProtocol": "udp"},
        {"UserIdGroupPairs": [{"GroupId": ""}], "FromPort": 7860, "ToPort": 7860},
    ],
)
def test_what_somebody_opened_beside_is_closed(cloud: Cloud, more: dict[str, Any]) -> None:
    (vpc,) = cloud.ec2.describe_vpcs(Filters=filters(is_default="true"))["Vpcs"]
    group = network.security_group(cloud, vpc["VpcId"], "open", ["203.0.113.7/32"], [])
    pairs = [{"GroupId": group} for _ in more.get("UserIdGroupPairs", ())]
    rule = {"IpProtocol": "tcp", **more, **({"UserIdGroupPairs": pairs} if pairs else {})}

    def rules() -> list[dict[str, Any]]:
        return list(cloud.ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"])

    before = rules()
    cloud.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    assert len(rules()) == 3
    assert network.security_group(cloud, vpc["VpcId"], "open", ["203.0.113.7/32"], []) == group
    assert rules() == before


def test_the_role_is_for_session_manager_only(aws: Emulator, cloud: Cloud, image: str) -> None:
    text = start(aws)
    assert "aws ssm start-session" in text
    assert "sudo danqing box password" in text
    attached = [form["PolicyArn"] for form in aws.requests("AttachRolePolicy")]
    assert attached == ["arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"]
    start(aws, "--name", "second")


def test_without_a_role_none_is_made(aws: Emulator, cloud: Cloud, image: str) -> None:
    start(aws, "--no-profile")
    assert cloud.client("iam").list_roles()["Roles"] == []


def test_spot_with_a_price(aws: Emulator, cloud: Cloud, image: str) -> None:
    start(aws, "--spot", "--spot-price", "0.40", "--type", "g4dn.xlarge")
    form = aws.requests("RunInstances")[-1]
    assert form["InstanceMarketOptions.MarketType"] == "spot"
    assert form["InstanceMarketOptions.SpotOptions.MaxPrice"] == "0.40"
    assert form["InstanceMarketOptions.SpotOptions.SpotInstanceType"] == "one-time"


def test_the_machine_is_told_what_it_should_know_and_no_secret(aws: Emulator, cloud: Cloud, image: str) -> None:
    from danqing.box.metadata import TOLD

    start(aws, "--idle-minutes", "45", "--data", "50")
    text = base64.b64decode(aws.requests("RunInstances")[-1]["UserData"]).decode()
    assert text.startswith("#cloud-config\n")
    told = json.loads(text.splitlines()[1].removeprefix(TOLD))
    assert told == {"idle_minutes": 45, "data_volume": "any"}


def test_the_newest_image_is_taken_unless_one_is_named(aws: Emulator, cloud: Cloud, image: str) -> None:
    newer = make_image(cloud, "danqing-0.2.0-1", "2026-11-20")
    start(aws)
    assert aws.requests("RunInstances")[-1]["ImageId"] == newer
    cloud.client("ssm").put_parameter(Name="/danqing/ami/latest", Value=image, Type="String")
    start(aws, "--name", "two", "--image", image)
    assert aws.requests("RunInstances")[-1]["ImageId"] == image
    start(aws, "--name", "three", "--image", "/danqing/ami/latest")
    assert aws.requests("RunInstances")[-1]["ImageId"] == image


def test_the_words_are_chinese_where_the_reader_is(aws: Emulator, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    text = start(aws)
    assert "页面：" in text
    assert "密码：" in text


# -- waiting --


def test_it_waits_for_the_page_and_tells_the_phases(aws: Emulator, cloud: Cloud, image: str) -> None:
    with box(STARTING, STARTING, READY) as page:
        aws.page = page
        text = run("launch", "--region", REGION, "--endpoint", aws.url, "--minutes", "1")
    assert f"The page: http://{page}/" in text
    assert "torch: 4.5 s" in text
    assert text.count("torch") == 1


def test_a_page_that_never_comes_is_said_with_what_to_look_at(aws: Emulator, cloud: Cloud, image: str) -> None:
    with box(STARTING) as page:
        aws.page = page
        error = refused("launch", "--region", REGION, "--endpoint", aws.url, "--minutes", "0.01")
    assert error.code == "not_ready"
    assert "get-console-output" in str(error)
    assert only(cloud).state == "running"


def test_a_machine_that_ends_while_starting(aws: Emulator, cloud: Cloud, image: str) -> None:
    start(aws)
    instance = only(cloud)
    cloud.ec2.stop_instances(InstanceIds=[instance.id])
    error = refused("start", "--region", REGION, "--endpoint", aws.url, "--name", "nobody")
    assert error.code == "no_instance"
    with pytest.raises(CloudError) as found:
        launch.waiting.until_ready(cloud, instance, 1, lambda en, zh: None)
    assert found.value.code == "stopped_early"


# -- the data volume --


def test_a_data_volume_is_made_encrypted_and_outlives_the_machine(aws: Emulator, cloud: Cloud, image: str) -> None:
    start(aws, "--data", "50")
    row = volumes.find(cloud, "danqing")
    assert row is not None
    assert (row["Size"], row["VolumeType"], row["Encrypted"]) == (50, "gp3", True)
    assert volumes.user_of(row) == only(cloud).id
    run("terminate", "--yes", "--region", REGION, "--endpoint", aws.url)
    kept = volumes.find(cloud, "danqing")
    assert kept is not None
    assert kept["VolumeId"] == row["VolumeId"]


def test_the_next_launch_takes_the_volume_where_it_lies(aws: Emulator, cloud: Cloud, image: str) -> None:
    made = volumes.create(cloud, "danqing", "us-east-1c", 20)
    start(aws)
    assert only(cloud).zone == "us-east-1c"
    row = volumes.find(cloud, "danqing")
    assert row is not None
    assert (row["VolumeId"], volumes.user_of(row)) == (made, only(cloud).id)
    text = base64.b64decode(aws.requests("RunInstances")[-1]["UserData"]).decode()
    assert made in text


def test_a_subnet_elsewhere_is_refused(aws: Emulator, cloud: Cloud, image: str) -> None:
    volumes.create(cloud, "danqing", "us-east-1c", 20)
    rows = cloud.ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-east-1a"]}])["Subnets"]
    error = trouble(aws, "--subnet", rows[0]["SubnetId"])
    assert error.code == "volume_elsewhere"
    assert "us-east-1c" in str(error)


def test_a_volume_in_use_is_left_alone(aws: Emulator, cloud: Cloud, image: str) -> None:
    start(aws, "--data", "20")
    other = only(cloud)
    cloud.ec2.create_tags(Resources=[other.id], Tags=[{"Key": "Name", "Value": "renamed"}])
    error = trouble(aws)
    assert error.code == "volume_busy"
    assert other.id in str(error)


# -- moving to another image --


def test_a_name_in_use_is_refused(aws: Emulator, cloud: Cloud, image: str) -> None:
    start(aws)
    error = trouble(aws)
    assert error.code == "name_taken"
    assert "REPLACE=1" in str(error)


def test_the_data_moves_to_a_machine_of_the_new_image(aws: Emulator, cloud: Cloud, image: str) -> None:
    start(aws, "--data", "20")
    old, before = only(cloud), volumes.find(cloud, "danqing")
    newer = make_image(cloud, "danqing-0.2.0-1", "2026-11-20")
    text = start(aws, "--replace")
    new, after = only(cloud), volumes.find(cloud, "danqing")
    assert before is not None
    assert after is not None
    assert new.id != old.id
    assert new.image == newer
    assert after["VolumeId"] == before["VolumeId"]
    assert volumes.user_of(after) == new.id
    snapshots = cloud.ec2.describe_snapshots(Filters=[{"Name": "volume-id", "Values": [before["VolumeId"]]}])
    assert [tags_of(row)["danqing:backup"] for row in snapshots["Snapshots"]] == ["danqing"]
    assert "before-upgrade" not in text
    assert "is kept" in text


def test_when_the_new_machine_fails_the_old_one_has_its_data_back(aws: Emulator, cloud: Cloud, image: str) -> None:
    start(aws, "--data", "20")
    old = only(cloud)
    aws.fail("RunInstances", "InsufficientInstanceCapacity", "no room")
    error = trouble(aws, "--replace")
    assert error.code == "no_capacity"
    row = volumes.find(cloud, "danqing")
    assert row is not None
    assert volumes.user_of(row) == old.id
    assert (only(cloud).id, only(cloud).state) == (old.id, "running")


def test_when_the_new_machine_never_draws_the_old_one_comes_back(aws: Emulator, cloud: Cloud, image: str) -> None:
    start(aws, "--data", "20")
    old = only(cloud)
    with box(STARTING) as page:
        aws.page = page
        where = ("--region", REGION, "--endpoint", aws.url)
        error = refused("launch", *where, "--minutes", "0.01", "--replace")
    assert error.code == "not_ready"
    assert (only(cloud).id, only(cloud).state) == (old.id, "running")


def test_a_volume_that_cannot_be_attached_leaves_no_machine(aws: Emulator, cloud: Cloud, image: str) -> None:
    aws.fail("AttachVolume", "VolumeInUse", "attached elsewhere")
    error = trouble(aws, "--data", "20")
    assert error.code == "volume_busy"
    assert [row for row in instances.all_of(cloud) if row.state == "running"] == []


# -- what is refused before anything is made --


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--type", "g5g.xlarge"), "arm"),
        (("--type", "t4g.medium"), "arm"),
        (("--type", "m7g.large"), "arm"),
        (("--type", "m7i.xlarge"), "no_gpu_type"),
        (("--type", "huge"), "bad_value"),
        (("--init-rate", "500"), "bad_value"),
        (("--spot", "--spot-price", "cheap"), "bad_value"),
        (("--cidr", "300.1.1.1"), "bad_value"),
        (("--image", "ami-0123456789abcdef0"), "image_missing"),
        (("--image", "/no/such/parameter"), "image_missing"),
    ],
)
def test_refusals(aws: Emulator, cloud: Cloud, image: str, words: tuple[str, ...], code: str) -> None:
    assert trouble(aws, *words).code == code
    assert instances.all_of(cloud) == []
    assert volumes.find(cloud, "danqing") is None


def test_arm_is_refused_by_name_with_another(aws: Emulator) -> None:
    text = str(trouble(aws, "--type", "g5g.2xlarge"))
    assert "g5g.2xlarge is an ARM machine" in text
    assert "g5.xlarge" in text


def test_without_an_image_it_says_how_to_make_one(aws: Emulator) -> None:
    assert "make ami REGION=us-east-1" in str(trouble(aws))


def test_who_may_open_it_must_be_said_for_a_real_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    done = CliRunner().invoke(cli.app, ["launch", "--region", REGION])
    assert isinstance(done.exception, CloudError)
    assert done.exception.code == "cidr_missing"


def test_an_arm_image_is_refused(aws: Emulator) -> None:
    error = trouble(aws, "--image", "ami-0a4400000000000a4")
    assert error.code == "wrong_architecture"
    assert "arm64" in str(error)


def test_china_has_its_own_names(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    # The emulator knows of no machine types there.
    monkeypatch.setattr(network, "_zones_of", lambda cloud, kind: {"cn-north-1a", "cn-north-1b"})
    make_image(Cloud.at("cn-north-1", aws.url), "danqing-0.1.0-1")
    aws.asked.clear()
    where = ("--cidr", MINE, "--region", "cn-north-1", "--endpoint", aws.url, "--minutes", "0")
    text = run("launch", *where, "--type", "g4dn.xlarge")
    assert "ICP" in text
    policy = aws.requests("AttachRolePolicy")[0]["PolicyArn"]
    assert policy == "arn:aws-cn:iam::aws:policy/AmazonSSMManagedInstanceCore"
    assert "ec2.amazonaws.com.cn" in aws.requests("CreateRole")[0]["AssumeRolePolicyDocument"]
