"""Figures of AWS that do not come from an API call: machine types with price and speed, and partitions.

Prices are Linux on demand in us-east-1, US dollars an hour, as published in July 2026; other regions cost up to half as much
again. Speeds are what others measured for Stable Diffusion 1.5 at 512 x 512, 20 steps; docs/aws.md names the sources.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from danqing.cloud.errors import CloudError

PRICES_OF = "us-east-1, 2026-07"


@dataclass(frozen=True, slots=True)
class Machine:
    """One type of machine. `dollars` an hour; `seconds` of one 512 x 512 picture of 20 steps, None where nobody measured."""

    name: str
    gpu: str
    gpu_gb: int
    cores: int
    memory_gb: int
    disk_gb: int
    """Instance store, empty after every stop."""
    ebs_mb: float
    """Most megabytes a second from EBS."""
    dollars: float
    seconds: float | None
    en: str
    zh: str

    @property
    def thousand(self) -> float:
        """Dollars of 1000 pictures; 0 where nobody measured."""
        return self.dollars / 3600 * (self.seconds or 0) * 1000


MACHINES: tuple[Machine, ...] = (
    Machine("g4dn.xlarge", "T4", 16, 4, 16, 125, 437.5, 0.526, 5.0, "cheapest that draws", "最便宜的可用机型"),
    Machine(
        "g4dn.2xlarge", "T4", 16, 8, 32, 225, 437.5, 0.752, 5.0, "more memory for models", "内存更大，可放更多模型"
    ),
    Machine("g5.xlarge", "A10G", 24, 4, 16, 250, 437.5, 1.006, 1.3, "the default", "默认机型"),
    Machine("g5.2xlarge", "A10G", 24, 8, 32, 450, 437.5, 1.212, 1.3, "several users", "适合多人使用"),
    Machine("g6.xlarge", "L4", 24, 4, 16, 250, 625.0, 0.8048, None, "newer and cheaper than g5", "比 g5 新且便宜"),
    Machine("g6.2xlarge", "L4", 24, 8, 32, 450, 625.0, 0.9776, None, "several users", "适合多人使用"),
    Machine("g6e.xlarge", "L40S", 48, 4, 32, 250, 625.0, 1.861, None, "fastest here, training", "最快，适合训练"),
)
DEFAULT_TYPE = "g5.xlarge"
BUILDER_TYPE = "m7i.xlarge"
BUILDER_DOLLARS = 0.2016
"""The bake needs no GPU."""

GP3_DOLLARS = 0.08
"""A GiB and month."""
SNAPSHOT_DOLLARS = 0.05
"""A GiB of changed blocks and month."""
INIT_DOLLARS = 0.0036
"""A GiB of snapshot at 300 MiB/s; in proportion to the rate."""
INIT_RATES = (100, 300)
"""Bounds of VolumeInitializationRate, MiB/s."""

ARM_FAMILY = re.compile(r"^[a-z]+\d+g[a-z]*$|^a1$")
"""Graviton: a g right after the generation's digit (g5g, m7g, c7gn, t4g)."""
TYPE_NAME = re.compile(r"^[a-z][a-z0-9-]*\d[a-z0-9-]*\.[a-z0-9-]+$")


def machine(name: str, any_type: bool = False) -> Machine | None:
    """The row of a type; None for an x86 type without a row, which `any_type` permits.

    Raises:
        CloudError: `arm`, `no_gpu_type`, `bad_value`.
    """
    if not TYPE_NAME.match(name):
        raise CloudError("bad_value", field="TYPE", value=name, reason=f"a machine type looks like {DEFAULT_TYPE}")
    found = next((row for row in MACHINES if row.name == name), None)
    family = name.split(".")[0]
    if found is None and ARM_FAMILY.match(family):
        raise CloudError("arm", instance_type=name, other=DEFAULT_TYPE)
    if found is None and family not in {row.name.split(".")[0] for row in MACHINES} and not any_type:
        raise CloudError("no_gpu_type", instance_type=name, known=", ".join(row.name for row in MACHINES))
    return found


def other_than(name: str) -> str:
    """A type to try when `name` cannot be had: the next with another GPU."""
    gpu = next((row.gpu for row in MACHINES if row.name == name), "")
    return next(row.name for row in MACHINES if row.gpu != gpu and row.gpu != "L40S")


@dataclass(frozen=True, slots=True)
class Partition:
    """A world of AWS of its own: accounts, endpoints and names are apart."""

    name: str
    suffix: str
    en: str = ""
    zh: str = ""

    def service(self, name: str) -> str:
        """A service's name in a role's trust policy."""
        return f"{name}.amazonaws.com.cn" if self.name == "aws-cn" else f"{name}.amazonaws.com"


CHINA = Partition(
    "aws-cn",
    "amazonaws.com.cn",
    "Regions in China: port 80 and 443 answer only after an ICP filing (or exemption) for the account; use "
    "another port or a "
    "private network until then. Model hubs outside are slow or blocked: set MODEL_MIRROR. The account is apart "
    "from aws.",
    "中国区域：账户完成 ICP 备案（或豁免）之前，80 与 443 端口不可访问；在此之前请使用其他端口或内网。"
    "境外模型站点慢或不可达：请设置 MODEL_MIRROR。该账户与 aws 全球账户相互独立。",
)
PARTITIONS: tuple[tuple[str, Partition], ...] = (
    ("cn-", CHINA),
    ("us-gov-", Partition("aws-us-gov", "amazonaws.com")),
)
REGION_NAME = re.compile(r"^[a-z]{2}(-[a-z]+)+-\d$")


def partition_of(region: str) -> Partition:
    """
    Raises:
        CloudError: `unknown_region`.
    """
    if not REGION_NAME.match(region):
        raise CloudError("unknown_region", region=region)
    return next((found for prefix, found in PARTITIONS if region.startswith(prefix)), Partition("aws", "amazonaws.com"))
