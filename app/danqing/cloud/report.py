"""What the commands say about machines and images: lines of English and Chinese."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import TYPE_CHECKING

from danqing.cloud import facts, instances, volumes, waiting
from danqing.cloud import images as ours
from danqing.cloud.clients import Cloud
from danqing.cloud.instances import Instance

if TYPE_CHECKING:
    from danqing.cloud.images import Image, Rubbish
    from danqing.cloud.launch import Wish

Line = tuple[str, str]


def before(cloud: Cloud, wish: Wish) -> list[Line]:
    """What the machine costs, and what to know of the region."""
    row = facts.machine(wish.instance_type, wish.any_type)
    found: list[Line] = []
    if row:
        speed = (
            (f", about {row.seconds:.1f} s a picture", f"，每张图约 {row.seconds:.1f} 秒") if row.seconds else ("", "")
        )
        found.append(
            (
                f"{row.name}: {row.gpu} {row.gpu_gb} GB, ${row.dollars:.3f} an hour ({facts.PRICES_OF}; spot is "
                f"less){speed[0]}",
                f"{row.name}：{row.gpu} {row.gpu_gb} GB，每小时 ${row.dollars:.3f}（{facts.PRICES_OF}，"
                f"竞价更低）{speed[1]}",
            )
        )
    if cloud.partition.en:
        found.append((f"note: {cloud.partition.en}", f"注意：{cloud.partition.zh}"))
    return found


def after(cloud: Cloud, wish: Wish, instance: Instance) -> list[Line]:
    """Where the page is, how to get the password, how to end it."""
    shell = f"aws ssm start-session --region {cloud.region} --target {instance.id}"
    login = f"ssh {ours.login_of(cloud, instance.image)}@{instance.address}" if wish.key else shell
    return [
        (f"The page: {instance.url}  (user admin)", f"页面：{instance.url}（用户 admin）"),
        (f"The password: {login}", f"密码：{login}"),
        ("    then: sudo danqing box password", "    然后：sudo danqing box password"),
        (
            f"To end it: make terminate NAME={wish.name} REGION={cloud.region}",
            f"终止：make terminate NAME={wish.name} REGION={cloud.region}",
        ),
    ]


def status(cloud: Cloud, found: list[Instance]) -> list[Line]:
    """One line a machine."""
    if not found:
        return [(f"No box in {cloud.region}.", f"{cloud.region} 没有机器。")]
    return [line for instance in found for line in _status(cloud, instance)]


def _status(cloud: Cloud, instance: Instance) -> Iterable[Line]:
    hours = (datetime.datetime.now(datetime.UTC) - instance.launched).total_seconds() / 3600
    price = f"${instance.dollars:.3f}/h" if instance.dollars else "?"
    en, zh = _readiness(instance)
    head = f"{instance.name:<16} {instance.id}  {instance.type}  {instance.zone}  {instance.image}  {price}"
    yield (
        f"{head}  {'spot, ' if instance.spot else ''}{instance.state} since {hours:.1f} h{en}",
        f"{head}  {'竞价，' if instance.spot else ''}{instance.state}，{hours:.1f} 小时{zh}",
    )
    if volume := volumes.find(cloud, instance.name):
        yield f"{'':<16} data {volumes.summary(volume)}", f"{'':<16} 数据 {volumes.summary(volume)}"


def _readiness(instance: Instance) -> Line:
    if instance.state != "running" or not instance.url:
        return "", ""
    code, answer = waiting.ask(instance.url, "/readyz")
    if code == 200:
        return f", ready at {instance.url}", f"，已就绪：{instance.url}"
    running = next((phase.get("name") for phase in answer.get("phases", ()) if phase.get("state") == "running"), "")
    if code:
        return f", starting ({running or code}) at {instance.url}", f"，启动中（{running or code}）：{instance.url}"
    return f", {instance.url} does not answer from here", f"，从本机无法访问 {instance.url}"


def images(cloud: Cloud, found: list[Image]) -> list[Line]:
    """One line an image, newest first."""
    if not found:
        return [
            (
                f"No image in {cloud.region}. make ami REGION={cloud.region}",
                f"{cloud.region} 没有镜像。make ami REGION={cloud.region}",
            )
        ]
    used = {instance.image for instance in instances.all_of(cloud)}
    return [_image(image, image.id in used) for image in found]


def _image(image: Image, used: bool) -> Line:
    text = f"{image.id}  {image.created:%Y-%m-%d %H:%M}  {image.gigabytes:>4} GiB  {image.state:<9}  {image.name}"
    return text + ("  (in use)" if used else ""), text + ("（使用中）" if used else "")


def rubbish(found: Rubbish) -> list[Line]:
    """What would go and what stays."""
    why = {"newest": "最新", "in use": "使用中"}
    lines: list[Line] = [
        (f"keep    {image.id}  {image.name}  ({reason})", f"保留  {image.id}  {image.name}（{why[reason]}）")
        for image, reason in found.kept
    ]
    lines += [(f"remove  {image.id}  {image.name}", f"删除  {image.id}  {image.name}") for image in found.images]
    lines += [(f"remove  {snapshot}  (no image)", f"删除  {snapshot}（无镜像）") for snapshot in found.snapshots]
    saved = found.gigabytes * facts.SNAPSHOT_DOLLARS
    if found.images or found.snapshots:
        lines.append((f"saves at most ${saved:.2f} a month", f"每月最多节省 ${saved:.2f}"))
    else:
        lines.append(("nothing to remove", "没有可删除的内容"))
    return lines


__all__ = ["after", "before", "images", "rubbish", "status"]
