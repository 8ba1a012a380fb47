"""Where a machine stands: subnets that can take its type, its firewall, and its role."""

from __future__ import annotations

import contextlib
import ipaddress
import json
from collections.abc import Sequence
from typing import Any

from danqing.cloud.clients import Cloud, filters, tag_list
from danqing.cloud.errors import CloudError

PROJECT = {"Project": "danqing"}
ROLE = "danqing-box"
PAGE_PORTS = (80, 443)
SSH_PORT = 22
EVERYBODY = "0.0.0.0/0"
SOURCES = (
    ("IpRanges", "CidrIp"),
    ("Ipv6Ranges", "CidrIpv6"),
    ("PrefixListIds", "PrefixListId"),
    ("UserIdGroupPairs", "GroupId"),
)
"""Where a rule of a firewall says whom it lets in."""


def checked_cidrs(texts: Sequence[str], field: str = "CIDR") -> list[str]:
    """Networks written as AWS wants them: 203.0.113.7 becomes 203.0.113.7/32.

    Raises:
        CloudError: `bad_value`.
    """
    found = []
    for text in texts:
        try:
            found.append(str(ipaddress.ip_network(text.strip(), strict=False)))
        except ValueError as error:
            raise CloudError("bad_value", field=field, value=text, reason=str(error)) from None
    return found


def subnets(cloud: Cloud, instance_type: str, wanted: str = "", zone: str = "") -> list[dict[str, Any]]:
    """Subnets that can take the type, in `zone` where one is named: the wanted one, or those of the default network.

    Raises:
        CloudError: `type_not_here`, `no_network`.
    """
    offered = _zones_of(cloud, instance_type)
    chosen = {"SubnetIds": [wanted]} if wanted else {"Filters": filters(default_for_az="true")}
    with cloud.told():
        rows = cloud.ec2.describe_subnets(**chosen)["Subnets"]
    fitting = [row for row in rows if row["AvailabilityZone"] in offered and zone in ("", row["AvailabilityZone"])]
    if not fitting:
        raise CloudError("no_network", region=cloud.region, zone=zone or ", ".join(sorted(offered)))
    return sorted(fitting, key=lambda row: str(row["AvailabilityZone"]))


def _zones_of(cloud: Cloud, instance_type: str) -> set[str]:
    from danqing.cloud.facts import other_than

    rows = cloud.pages(
        "ec2",
        "describe_instance_type_offerings",
        "InstanceTypeOfferings",
        LocationType="availability-zone",
        Filters=filters(instance_type=instance_type),
    )
    if not rows:
        other = other_than(instance_type)
        raise CloudError("type_not_here", instance_type=instance_type, region=cloud.region, other=other)
    return {str(row["Location"]) for row in rows}


def security_group(cloud: Cloud, vpc: str, name: str, cidrs: Sequence[str], ssh: Sequence[str]) -> str:
    """The id of the group `danqing-NAME`, made when missing, which lets in exactly these and nobody else."""
    title = f"danqing-{name}"
    with cloud.told():
        found = cloud.ec2.describe_security_groups(Filters=filters(group_name=title, vpc_id=vpc))["SecurityGroups"]
        group = found[0]["GroupId"] if found else _new_group(cloud, vpc, title)
        _set_rules(cloud, group, found[0]["IpPermissions"] if found else [], _rules(cidrs, ssh))
    return str(group)


def _new_group(cloud: Cloud, vpc: str, title: str) -> str:
    made = cloud.ec2.create_security_group(
        GroupName=title,
        Description="Danqing: the page, and SSH where asked",
        VpcId=vpc,
        TagSpecifications=[{"ResourceType": "security-group", "Tags": tag_list({**PROJECT, "Name": title})}],
    )
    return str(made["GroupId"])


def _rules(cidrs: Sequence[str], ssh: Sequence[str]) -> list[dict[str, Any]]:
    ports = [(port, cidr) for port in PAGE_PORTS for cidr in cidrs] + [(SSH_PORT, cidr) for cidr in ssh]
    return [
        {
            "IpProtocol": "tcp",
            "FromPort": port,
            "ToPort": port,
            **({"Ipv6Ranges": [{"CidrIpv6": cidr}]} if ":" in cidr else {"IpRanges": [{"CidrIp": cidr}]}),
        }
        for port, cidr in ports
    ]


def _set_rules(cloud: Cloud, group: str, present: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    if _openings(present) == _openings(wanted):
        return
    if present:
        cloud.ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=present)
    if wanted:
        cloud.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=wanted)


def _openings(rules: list[dict[str, Any]]) -> set[tuple[str, int, int, str]]:
    """Protocol, first and last port, and who: a network, a list of networks, or another group."""
    return {
        (rule["IpProtocol"], rule.get("FromPort", -1), rule.get("ToPort", -1), str(who[name]))
        for rule in rules
        for kind, name in SOURCES
        for who in rule.get(kind, ())
    }


def profile(cloud: Cloud) -> str:
    """The instance profile `danqing-box`, made when missing: Session Manager and nothing else, no keys on the machine."""
    iam = cloud.client("iam")
    with cloud.told():
        try:
            found = iam.get_instance_profile(InstanceProfileName=ROLE)["InstanceProfile"]
        except iam.exceptions.NoSuchEntityException:
            found = {}
        if not found.get("Roles"):
            _make_role(cloud, iam)
            if not found:
                iam.create_instance_profile(InstanceProfileName=ROLE, Tags=tag_list(PROJECT))
            iam.add_role_to_instance_profile(InstanceProfileName=ROLE, RoleName=ROLE)
    return ROLE


def _make_role(cloud: Cloud, iam: Any) -> None:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": cloud.partition.service("ec2")},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):  # an earlier run was cut off here
        iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(trust), Tags=tag_list(PROJECT))
    policy = f"arn:{cloud.partition.name}:iam::aws:policy/AmazonSSMManagedInstanceCore"
    # An emulator may have none of Amazon's own policies.
    with contextlib.suppress(*([iam.exceptions.NoSuchEntityException] if cloud.emulated else [])):
        iam.attach_role_policy(RoleName=ROLE, PolicyArn=policy)
