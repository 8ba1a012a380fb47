"""`danqing cloud …` and `python -m danqing.cloud …`: what people and the Makefile call."""

from __future__ import annotations

import datetime
import json
import sys
from typing import Annotated, NoReturn

import typer

from danqing.cloud import bases as base_table
from danqing.cloud import facts
from danqing.cloud import plan as planning
from danqing.cloud.clients import Cloud
from danqing.cloud.errors import CloudError
from danqing.errors import DanqingError, environment_language

app = typer.Typer(
    name="cloud",
    help="AWS: images and machines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Region = Annotated[str, typer.Option("--region", help="AWS region; default: of the environment, else us-east-1.")]
Endpoint = Annotated[str, typer.Option("--endpoint", help="Address of an emulator of AWS; default: AWS itself.")]
BaseName = Annotated[str, typer.Option("--base", help="A name that `bases` lists.")]
Market = Annotated[bool, typer.Option("--marketplace", help="Only what AWS Marketplace accepts.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]
Name = Annotated[str, typer.Option("--name", help="Name of the box: its machine, data volume and firewall.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
ImageId = Annotated[str, typer.Option("--image", help="ami-…, or an SSM parameter /…; default: the newest of ours.")]


def say(en: str, zh: str) -> None:
    """One line in the reader's language."""
    typer.echo(zh if environment_language() == "zh" else en)


def words(text: str) -> list[str]:
    """What stands between commas or blanks: make hands lists over as one word."""
    return text.replace(",", " ").split()


def today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


# -- bases --


@app.command()
def bases(as_json: AsJson = False) -> None:
    """List the base images that `make ami` can build on."""
    rows = base_table.BASES
    if as_json:
        typer.echo(
            json.dumps(
                [{"name": b.name, "title": b.title, "pattern": b.pattern, "parameter": b.parameter} for b in rows]
            )
        )
        return
    for row in rows:
        ended = row.system_ends < today()
        mark = "*" if row.name == base_table.DEFAULT_BASE else " "
        en = f"support ended {row.system_ends}" if ended else f"supported until {row.system_ends}"
        zh = f"支持已于 {row.system_ends} 结束" if ended else f"支持到 {row.system_ends}"
        say(f"{mark} {row.name:<20} {row.title}; {en}", f"{mark} {row.name:<20} {row.title}；{zh}")


@app.command("check-base")
def check_base(
    base: BaseName = base_table.DEFAULT_BASE,
    region: Region = "",
    endpoint: Endpoint = "",
    marketplace: Market = False,
    as_json: AsJson = False,
) -> None:
    """Whether AWS still offers a base here: exit 0 with what its age means, or 2 with the command that works."""
    found = base_table.check(Cloud.at(region, endpoint), base, marketplace, today())
    notes = found.notes(today())
    if as_json:
        table = {"image": found.image, "name": found.name, "created": str(found.created)}
        typer.echo(json.dumps({**table, "region": found.region, "base": base, "notes": [en for en, _ in notes]}))
        return
    age = found.age_days(today())
    say(
        f"{base}: {found.image} ({found.name}), {age} days old, in {found.region}",
        f"{base}：{found.image}（{found.name}），已有 {age} 天，位于 {found.region}",
    )
    for en, zh in notes:
        say(f"  ! {en}", f"  ！{zh}")
    if notes and found.base.name != base_table.SUPPORTED_BASE:
        command = base_table.command_for(found.region, marketplace)
        say(f"  Supported: {command}", f"  受支持的：{command}")


@app.command()
def plan(
    base: BaseName = base_table.DEFAULT_BASE,
    region: Region = "us-east-1",
    regions: Annotated[str, typer.Option(help="More regions that would get a copy.")] = "",
    accounts: Annotated[str, typer.Option(help="Accounts that it would be shared with.")] = "",
    marketplace: Market = False,
    spot: Annotated[bool, typer.Option("--spot", help="The builder is a spot machine.")] = False,
) -> None:
    """What `make ami` would do and cost. Asks nobody and needs no credentials."""
    facts.partition_of(region)
    wanted = planning.Plan(
        base_table.base(base), region, tuple(words(regions)), tuple(words(accounts)), marketplace, spot
    )
    for line in planning.lines(wanted, today(), environment_language()):
        typer.echo(line)


@app.command()
def types() -> None:
    """List the machine types to launch on, with price and speed."""
    say(f"prices of {facts.PRICES_OF}", f"价格：{facts.PRICES_OF}")
    for row in facts.MACHINES:
        speed = f"{row.seconds:.1f} s" if row.seconds else "-"
        cost = f"{row.thousand:.2f}" if row.seconds else "-"
        mark = "*" if row.name == facts.DEFAULT_TYPE else " "
        numbers = f"{mark} {row.name:<13} {row.gpu:<5} {row.gpu_gb:>3} GB  ${row.dollars:<7.3f}/h"
        say(
            f"{numbers} {speed:>6} a picture, ${cost:>5} per 1000  {row.en}",
            f"{numbers} 每张 {speed:>6}，每千张 ${cost:>5}  {row.zh}",
        )


# -- machines --


@app.command()
def launch(
    name: Name = "danqing",
    instance_type: Annotated[
        str, typer.Option("--type", help="Machine type; `types` lists them.")
    ] = facts.DEFAULT_TYPE,
    image: ImageId = "",
    cidr: Annotated[str, typer.Option(help="Networks that may open the page.")] = "",
    key: Annotated[str, typer.Option(help="Key pair for SSH; without one use Session Manager.")] = "",
    ssh_cidr: Annotated[str, typer.Option(help="Networks that may use SSH; default with a key: those of --cidr.")] = "",
    subnet: Annotated[str, typer.Option(help="Subnet; default: one of the default network.")] = "",
    disk: Annotated[int, typer.Option(min=0, help="GiB of the machine's own disk; 0 is the image's.")] = 0,
    data: Annotated[int, typer.Option(min=0, max=16384, help="GiB of a new data volume, if there is none yet.")] = 0,
    init_rate: Annotated[int, typer.Option(help="VolumeInitializationRate in MiB/s, 100 to 300; 0 for none.")] = 300,
    kms_key: Annotated[str, typer.Option(help="KMS key that encrypts the disks.")] = "",
    spot: Annotated[bool, typer.Option("--spot", help="A spot machine: cheaper, may be taken away.")] = False,
    spot_price: Annotated[str, typer.Option(help="Most dollars an hour for spot; default: the list price.")] = "",
    profile: Annotated[bool, typer.Option(help="Give it the role for Session Manager.")] = True,
    any_type: Annotated[bool, typer.Option("--any-type", help="Allow a type without a GPU.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Move the data of a running box of this name here.")
    ] = False,
    idle_minutes: Annotated[
        int, typer.Option(min=0, help="Power off after so many minutes without a job; 0 is never.")
    ] = 0,
    minutes: Annotated[float, typer.Option(min=0, help="Wait so long for the page; 0 does not wait.")] = 20.0,
    region: Region = "",
    endpoint: Endpoint = "",
) -> None:
    """Launch a box, wait until it draws, say where the page is and how to get the password."""
    from danqing.cloud import launch as launching
    from danqing.cloud import report

    cloud = Cloud.at(region, endpoint)
    wish = launching.Wish(
        name=name,
        instance_type=instance_type,
        image=image,
        cidrs=words(cidr),
        ssh_cidrs=words(ssh_cidr or cidr) if key else words(ssh_cidr),
        key=key,
        subnet=subnet,
        disk_gb=disk,
        data_gb=data,
        init_rate=init_rate,
        kms_key=kms_key,
        spot=spot,
        spot_price=spot_price,
        profile=profile,
        any_type=any_type,
        replace=replace,
        minutes=minutes,
        box={"idle_minutes": idle_minutes} if idle_minutes else {},
    )
    for en, zh in report.before(cloud, wish):
        say(en, zh)
    instance = launching.launch(cloud, wish, say)
    for en, zh in report.after(cloud, wish, instance):
        say(en, zh)


@app.command()
def status(
    name: Annotated[str, typer.Option("--name", help="Only this box.")] = "",
    region: Region = "",
    endpoint: Endpoint = "",
) -> None:
    """List the boxes: state, address, whether the page is ready, cost."""
    from danqing.cloud import instances, report

    cloud = Cloud.at(region, endpoint)
    found = instances.all_of(cloud, name)
    if name and not found:
        raise CloudError("no_instance", name=name, region=cloud.region)
    for en, zh in report.status(cloud, found):
        say(en, zh)


@app.command()
def stop(name: Name = "danqing", region: Region = "", endpoint: Endpoint = "") -> None:
    """Stop a box; its disks stay and cost. `start` brings it back."""
    from danqing.cloud import instances

    cloud = Cloud.at(region, endpoint)
    instance = instances.one(cloud, name)
    instances.stop(cloud, instance)
    say(f"{instance.id} is stopping; its disks stay and cost", f"{instance.id} 正在停止；磁盘保留并继续计费")


@app.command()
def start(
    name: Name = "danqing",
    minutes: Annotated[float, typer.Option(min=0, help="Wait so long for the page; 0 does not wait.")] = 20.0,
    region: Region = "",
    endpoint: Endpoint = "",
) -> None:
    """Start a stopped box and wait until it draws."""
    from danqing.cloud import instances, waiting

    cloud = Cloud.at(region, endpoint)
    instance = instances.one(cloud, name)
    instances.start(cloud, instance)
    with cloud.told():
        cloud.ec2.get_waiter("instance_running").wait(InstanceIds=[instance.id], WaiterConfig=instances.WAIT)
    instance = waiting.until_ready(cloud, instances.fresh(cloud, instance.id), minutes, say)
    say(f"The page: {instance.url}", f"页面：{instance.url}")


@app.command()
def terminate(
    name: Name = "danqing",
    with_data: Annotated[bool, typer.Option("--with-data", help="Delete its data volume too.")] = False,
    yes: Yes = False,
    region: Region = "",
    endpoint: Endpoint = "",
) -> None:
    """End a box for good, after asking. Its data volume stays, unless with --with-data."""
    from danqing.cloud import instances, volumes

    cloud = Cloud.at(region, endpoint)
    instance = instances.one(cloud, name)
    volume = instances.data_volume(cloud, instance)
    _what_goes(instance.id, instance.type, volumes.summary(volume) if volume else "", with_data)
    _ask(yes, "Terminate?", "确定终止？")
    instances.terminate(cloud, instance, wait=bool(volume and with_data))
    say(f"{instance.id} is being terminated", f"正在终止 {instance.id}")
    if volume and with_data:
        volumes.delete(cloud, volume["VolumeId"])
        say(f"{volume['VolumeId']} deleted", f"已删除 {volume['VolumeId']}")


def _what_goes(instance: str, kind: str, volume: str, with_data: bool) -> None:
    if volume and not with_data:
        en, zh = f"Data volume {volume} stays.", f"数据卷 {volume} 会保留。"
    elif volume:
        en, zh = (
            f"Data volume {volume} and every picture on it are DELETED.",
            f"数据卷 {volume} 及其中所有图片将被删除。",
        )
    else:
        en, zh = "It has no data volume: its pictures are DELETED.", "它没有数据卷：其中的图片将被删除。"
    say(f"{instance} ({kind}) ends for good. {en}", f"{instance}（{kind}）将被永久终止。{zh}")


def _ask(yes: bool, en: str, zh: str) -> None:
    if not yes:
        typer.confirm(zh if environment_language() == "zh" else en, abort=True)


# -- images --


@app.command()
def images(region: Region = "", endpoint: Endpoint = "") -> None:
    """List our images."""
    from danqing.cloud import images as ours
    from danqing.cloud import report

    cloud = Cloud.at(region, endpoint)
    for en, zh in report.images(cloud, ours.ours(cloud)):
        say(en, zh)


@app.command()
def clean(
    keep: Annotated[int, typer.Option(min=0, help="So many of the newest images stay.")] = 3,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this it is only shown.")] = False,
    region: Region = "",
    endpoint: Endpoint = "",
) -> None:
    """Remove old images, their snapshots, and snapshots that builds left behind. Only shows them, unless with --yes."""
    from danqing.cloud import images as ours
    from danqing.cloud import report

    cloud = Cloud.at(region, endpoint)
    found = ours.rubbish(cloud, keep)
    for en, zh in report.rubbish(found):
        say(en, zh)
    if not (found.images or found.snapshots):
        return
    if not yes:
        say(
            "Nothing was removed. Repeat with --yes (make images CLEAN=1 YES=1).",
            "未删除任何内容。加 --yes 执行（make images CLEAN=1 YES=1）。",
        )
        return
    ours.remove(cloud, found)
    say("Removed.", "已删除。")


@app.command()
def share(
    image: ImageId = "",
    accounts: Annotated[str, typer.Option(help="Account numbers that may launch it.")] = "",
    organisations: Annotated[str, typer.Option(help="ARNs of organisations or units that may launch it.")] = "",
    regions: Annotated[str, typer.Option(help="Regions that get a copy, shared alike.")] = "",
    parameter: Annotated[
        str, typer.Option(help="SSM parameter to publish the id in, such as /danqing/ami/latest.")
    ] = "",
    region: Region = "",
    endpoint: Endpoint = "",
) -> None:
    """Copy an image to regions, share it there and here, publish its id."""
    from danqing.cloud import images as ours

    if not words(accounts) + words(organisations) + words(regions) + words(parameter):
        raise CloudError(
            "bad_value", field="share", value="", reason="name ACCOUNTS, ORGANISATIONS, REGIONS or PARAMETER"
        )
    ours.check_sharing(words(accounts), words(organisations))
    cloud = Cloud.at(region, endpoint)
    found = ours.resolve(cloud, image)
    places = [(cloud, found)]
    for name in words(regions):
        say(f"Copying {found.id} to {name}; this takes minutes", f"正在复制 {found.id} 到 {name}，需要几分钟")
        there = ours.copy(cloud, found, name)
        places.append((there, next(other for other in ours.ours(there) if other.name == found.name)))
    for place, copy in places:
        if words(accounts) + words(organisations):
            ours.share(place, copy, words(accounts), words(organisations))
        if parameter:
            ours.publish(place, copy, parameter)
        say(f"{copy.id} in {place.region}: done", f"{place.region} 的 {copy.id}：完成")


def run() -> NoReturn:
    """The commands, errors raised to the caller."""
    app(prog_name="danqing cloud")
    raise SystemExit(0)


def main() -> None:
    """The commands; errors are one sentence on stderr and the exit code."""
    try:
        run()
    except DanqingError as error:
        sys.stderr.write(error.text(environment_language()) + "\n")
        raise SystemExit(error.status if error.status < 100 else 2) from None
