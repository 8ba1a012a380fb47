"""The base images that `make ami` can build on, and whether AWS still offers them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from danqing.cloud.clients import Cloud, filters
from danqing.cloud.errors import CloudError

DEFAULT_BASE = "focal-pytorch-1.13"
SUPPORTED_BASE = "noble-pytorch"
"""What to build on where the wanted base is gone."""

MARKET_YEARS = 2
"""AWS Marketplace refuses older images; public images are hidden from listings at this age."""

CANONICAL = "099720109477"
CANONICAL_CN = "837727238323"


@dataclass(frozen=True, slots=True)
class Base:
    """One base. It is found by an SSM parameter where it has one, else as the newest image whose name matches."""

    name: str
    title: str
    pattern: str
    """Image name with * and ?."""
    owner: str
    system: str
    system_ends: datetime.date
    """End of the operating system's standard support."""
    user: str
    driver: bool
    """Whether it brings NVIDIA's driver."""
    parameter: str = ""
    root_gb: int = 60

    def owner_in(self, partition: str) -> str:
        """Canonical has another account in China; `amazon` is the same everywhere."""
        return CANONICAL_CN if self.owner == CANONICAL and partition == "aws-cn" else self.owner


_DLAMI = "/aws/service/deeplearning/ami/x86_64/"
_UBUNTU = "ubuntu/images/hvm-ssd*/ubuntu-{}-amd64-server-*"
_FOCAL_ENDS, _JAMMY_ENDS, _NOBLE_ENDS = (
    datetime.date(2025, 5, 31),
    datetime.date(2027, 4, 30),
    datetime.date(2029, 4, 30),
)

BASES: tuple[Base, ...] = (
    Base(
        "focal-pytorch-1.13",
        "Deep Learning AMI GPU PyTorch 1.13.1 (Ubuntu 20.04)",
        "Deep Learning AMI GPU PyTorch 1.13.? (Ubuntu 20.04) ????????",
        "amazon",
        "Ubuntu 20.04",
        _FOCAL_ENDS,
        "ubuntu",
        True,
        root_gb=75,
    ),
    Base(
        "jammy-pytorch",
        "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.7 (Ubuntu 22.04)",
        "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.? (Ubuntu 22.04) ????????",
        "amazon",
        "Ubuntu 22.04",
        _JAMMY_ENDS,
        "ubuntu",
        True,
        parameter=f"{_DLAMI}oss-nvidia-driver-gpu-pytorch-2.7-ubuntu-22.04/latest/ami-id",
        root_gb=75,
    ),
    Base(
        "noble-pytorch",
        "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.9 (Ubuntu 24.04)",
        "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.* (Ubuntu 24.04) ????????",
        "amazon",
        "Ubuntu 24.04",
        _NOBLE_ENDS,
        "ubuntu",
        True,
        parameter=f"{_DLAMI}oss-nvidia-driver-gpu-pytorch-2.9-ubuntu-24.04/latest/ami-id",
        root_gb=75,
    ),
    Base(
        "jammy-driver",
        "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04)",
        "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) ????????",
        "amazon",
        "Ubuntu 22.04",
        _JAMMY_ENDS,
        "ubuntu",
        True,
        parameter=f"{_DLAMI}base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id",
        root_gb=75,
    ),
    Base(
        "jammy-lean",
        "Ubuntu 22.04, driver installed by the build",
        _UBUNTU.format("jammy-22.04"),
        CANONICAL,
        "Ubuntu 22.04",
        _JAMMY_ENDS,
        "ubuntu",
        False,
        parameter="/aws/service/canonical/ubuntu/server/22.04/stable/current/amd64/hvm/ebs-gp2/ami-id",
        root_gb=40,
    ),
    Base(
        "noble-lean",
        "Ubuntu 24.04, driver installed by the build",
        _UBUNTU.format("noble-24.04"),
        CANONICAL,
        "Ubuntu 24.04",
        _NOBLE_ENDS,
        "ubuntu",
        False,
        parameter="/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id",
        root_gb=40,
    ),
)


def base(name: str) -> Base:
    """
    Raises:
        CloudError: `unknown_base`.
    """
    found = next((row for row in BASES if row.name == name), None)
    if found is None:
        raise CloudError("unknown_base", base=name, known=", ".join(row.name for row in BASES))
    return found


@dataclass(frozen=True, slots=True)
class Found:
    """A base as AWS has it now. `image`: its id."""

    base: Base
    region: str
    image: str
    name: str
    created: datetime.date
    deprecated: datetime.date | None

    def age_days(self, today: datetime.date) -> int:
        return (today - self.created).days

    def notes(self, today: datetime.date) -> list[tuple[str, str]]:
        """What its age means, in English and Chinese; empty for a fresh one."""
        notes: list[tuple[str, str]] = []
        if today > self.base.system_ends:
            end = self.base.system_ends.isoformat()
            notes.append(
                (
                    f"{self.base.system} got its last free security updates on {end}; new holes stay open. Use it "
                    "only where "
                    "nobody else can reach the box, or build on a supported base.",
                    f"{self.base.system} 的免费安全更新已于 {end} 结束，新漏洞不会修复。请只在封闭网络中使用，"
                    "或改用受支持的基础镜像。",
                )
            )
        if self.deprecated and self.deprecated <= today:
            notes.append(
                (
                    f"AWS deprecated this image on {self.deprecated}: the console no longer lists it, it can "
                    "still be started by "
                    "its id, and AWS may withdraw it any day.",
                    f"AWS 已于 {self.deprecated} 弃用此镜像：控制台不再列出，仍可按 ID 启动，AWS 随时可能撤下。",
                )
            )
        if reason := self.market_reason(today):
            notes.append(
                (
                    f"AWS Marketplace refuses what is built on it: {reason}.",
                    f"AWS Marketplace 不接受由它制作的镜像：{reason}。",
                )
            )
        return notes

    def market_reason(self, today: datetime.date) -> str:
        """Why Marketplace refuses it, "" when it does not."""
        if today > self.base.system_ends:
            return f"the operating system's support ended {self.base.system_ends}"
        if self.age_days(today) > MARKET_YEARS * 365:
            return f"the image is older than {MARKET_YEARS} years ({self.created})"
        return ""


def command_for(region: str, market: bool = False, name: str = SUPPORTED_BASE) -> str:
    """The exact command that builds on a supported base."""
    return f"make ami BASE={name} REGION={region}" + (" MARKETPLACE=1" if market else "")


def find(cloud: Cloud, wanted: Base) -> Found:
    """The newest image of a base in the cloud's region.

    Raises:
        CloudError: `base_gone`, or what AWS refuses.
    """
    row = _by_parameter(cloud, wanted) or _by_name(cloud, wanted)
    if row is None:
        raise CloudError(
            "base_gone",
            base=wanted.name,
            region=cloud.region,
            pattern=wanted.pattern,
            command=command_for(cloud.region, name=_other_than(wanted)),
        )
    deprecated = row.get("DeprecationTime")
    return Found(
        wanted, cloud.region, row["ImageId"], row["Name"], _day(row["CreationDate"]), deprecated and _day(deprecated)
    )


def _other_than(wanted: Base) -> str:
    return SUPPORTED_BASE if wanted.name != SUPPORTED_BASE else "noble-lean"


def _day(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text[:10])


def _by_parameter(cloud: Cloud, wanted: Base) -> dict[str, Any] | None:
    if not wanted.parameter:
        return None
    with cloud.told(operation="ssm:GetParameters"):
        found = cloud.client("ssm").get_parameters(Names=[wanted.parameter])["Parameters"]
    return _newest(cloud, ImageIds=[found[0]["Value"]]) if found else None


def _by_name(cloud: Cloud, wanted: Base) -> dict[str, Any] | None:
    return _newest(
        cloud,
        Owners=[wanted.owner_in(cloud.partition.name)],
        Filters=filters(name=wanted.pattern, state="available", architecture="x86_64"),
    )


def _newest(cloud: Cloud, **arguments: Any) -> dict[str, Any] | None:
    # Without this AWS hides what it deprecated, although it still starts it.
    with cloud.told(operation="ec2:DescribeImages"):
        rows = cloud.ec2.describe_images(IncludeDeprecated=True, **arguments)["Images"]
    return max(rows, key=lambda row: row["CreationDate"], default=None)


def check(cloud: Cloud, name: str, market: bool, today: datetime.date) -> Found:
    """A base that can be built on now.

    Raises:
        CloudError: `unknown_base`, `base_gone`, `base_not_for_market`.
    """
    wanted = base(name)
    if market and today > wanted.system_ends:
        raise _not_for_market(wanted, cloud.region, f"the operating system's support ended {wanted.system_ends}")
    found = find(cloud, wanted)
    if market and (reason := found.market_reason(today)):
        raise _not_for_market(wanted, cloud.region, reason)
    return found


def _not_for_market(wanted: Base, region: str, reason: str) -> CloudError:
    command = command_for(region, market=True, name=_other_than(wanted))
    return CloudError("base_not_for_market", base=wanted.name, reason=reason, command=command)
