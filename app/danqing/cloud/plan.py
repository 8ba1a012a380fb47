"""What `make ami` would do, how long it takes and what it costs. Offline: no credentials, no network."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from danqing.cloud import facts
from danqing.cloud.bases import Base, command_for
from danqing.cloud.facts import Partition, partition_of
from danqing.errors import Language

IMAGE_GB = 22
"""GiB of blocks in use on a finished image with the default models, of which snapshots cost."""

Line = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the build. `minutes`: as estimated, low and high."""

    en: str
    zh: str
    low: float
    high: float


STEPS: tuple[Step, ...] = (
    Step("look whether AWS still offers the base", "查询 AWS 是否仍提供基础镜像", 0.1, 0.2),
    Step("start a builder machine, wait for SSH or Session Manager", "启动构建机，等待 SSH 或 Session Manager", 1, 3),
    Step(
        "Ansible: system, Python, torch that fits the driver, the app",
        "Ansible：系统、Python、与驱动匹配的 torch、应用",
        6,
        12,
    ),
    Step("fetch the models of the chosen groups (about 10 GB)", "下载所选模型组（约 10 GB）", 3, 20),
    Step("first picture, prefetch list, clean-up and its validation", "首张图、预取清单、清理与校验", 2, 5),
    Step("stop, snapshot, register the image", "停止、快照、注册镜像", 5, 15),
)
COPY = Step("copy to another region", "复制到另一区域", 8, 40)


@dataclass(frozen=True, slots=True)
class Plan:
    """A build as it would be."""

    base: Base
    region: str
    copies: tuple[str, ...]
    accounts: tuple[str, ...]
    market: bool
    spot: bool

    @property
    def partition(self) -> Partition:
        return partition_of(self.region)

    def steps(self) -> list[Step]:
        return [*STEPS, *(COPY for _ in self.copies)]

    def minutes(self) -> tuple[float, float]:
        """Least and most, copies one after another."""
        return sum(step.low for step in self.steps()), sum(step.high for step in self.steps())

    def dollars(self) -> tuple[float, float]:
        """One build, least and most: machine and its disk."""
        low, high = (sum(getattr(step, name) for step in STEPS) / 60 for name in ("low", "high"))
        hour = facts.BUILDER_DOLLARS * (0.4 if self.spot else 1.0) + self.base.root_gb * facts.GP3_DOLLARS / 730
        return hour * low, hour * high

    def monthly(self) -> float:
        """Keeping the image: its snapshot in every region."""
        return IMAGE_GB * facts.SNAPSHOT_DOLLARS * (1 + len(self.copies))


def lines(plan: Plan, today: datetime.date, language: Language) -> list[str]:
    """The plan for people."""
    found = _what(plan, today)
    found += [(f"  {n}. {step.en}", f"  {n}. {step.zh}") for n, step in enumerate(plan.steps(), 1)]
    low, high = plan.minutes()
    least, most = plan.dollars()
    found += [
        (f"time: {low:.0f} to {high:.0f} minutes (estimated)", f"时间：{low:.0f} 到 {high:.0f} 分钟（估计）"),
        (
            f"cost: ${least:.2f} to ${most:.2f} for the build, then ${plan.monthly():.2f} a month for the snapshots "
            f"(prices of {facts.PRICES_OF})",
            f"费用：构建 ${least:.2f} 到 ${most:.2f}，之后快照每月 ${plan.monthly():.2f}（价格为 {facts.PRICES_OF}）",
        ),
        ("nothing was changed and nobody was asked", "未做任何更改，也未访问网络"),
    ]
    return [zh if language == "zh" else en for en, zh in found]


def _what(plan: Plan, today: datetime.date) -> list[Line]:
    base, spot = plan.base, " (spot)" if plan.spot else ""
    found: list[Line] = [
        (f"base: {base.name}: {base.title}", f"基础镜像：{base.name}：{base.title}"),
        (f"found by: {base.parameter or base.pattern}", f"查找方式：{base.parameter or base.pattern}"),
        (f"region: {plan.region} ({plan.partition.name})", f"区域：{plan.region}（{plan.partition.name}）"),
        (
            f"builder: {facts.BUILDER_TYPE}{spot}, {base.root_gb} GiB gp3, IMDSv2 only",
            f"构建机：{facts.BUILDER_TYPE}{spot}，{base.root_gb} GiB gp3，仅 IMDSv2",
        ),
    ]
    if plan.copies:
        found.append((f"copied to: {', '.join(plan.copies)}", f"复制到：{', '.join(plan.copies)}"))
    if plan.accounts:
        found.append((f"shared with: {', '.join(plan.accounts)}", f"共享给：{', '.join(plan.accounts)}"))
    found += _warnings(plan, today)
    return [*found, ("steps:", "步骤：")]


def _warnings(plan: Plan, today: datetime.date) -> list[Line]:
    found: list[Line] = []
    if today > plan.base.system_ends:
        command = command_for(plan.region, plan.market)
        end = plan.base.system_ends
        found.append(
            (
                f"note: {plan.base.system} is past its support ({end}); AWS hides this base from listings and may "
                "have "
                f"withdrawn it. Supported: {command}",
                f"注意：{plan.base.system} 的支持已于 {end} 结束；AWS 已在列表中隐藏此基础镜像，也可能已撤下。"
                f"受支持的：{command}",
            )
        )
    if plan.market:
        found.append(
            (
                "MARKETPLACE=1: built in us-east-1, unencrypted, no key, validator asserts Marketplace's rules",
                "MARKETPLACE=1：在 us-east-1 构建、不加密、不含密钥，校验器按 Marketplace 规则检查",
            )
        )
    if plan.partition.en:
        found.append((f"note: {plan.partition.en}", f"注意：{plan.partition.zh}"))
    return found
