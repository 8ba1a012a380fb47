"""`danqing box …`: what the units run and what people type on the machine. Each command imports only what it needs."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from danqing.box.places import Places
from danqing.errors import environment_language

app = typer.Typer(
    name="box",
    help="This machine as a box.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]


def say(en: str, zh: str) -> None:
    """One line in the reader's language."""
    typer.echo(zh if environment_language() == "zh" else en)


# -- what the units run --


@app.command()
def firstboot() -> None:
    """Open the data volume, make the password and the secrets (once). Run by systemd at every boot."""
    from danqing.box import firstboot as first
    from danqing.box.metadata import Metadata

    first.run(Places.here(), Metadata())


@app.command()
def prefetch(
    depth: Annotated[int, typer.Option(min=1, max=1024, help="Reads in flight.")] = 64,
    file: Annotated[Path | None, typer.Option("--list", help="Another list.")] = None,
    record: Annotated[bool, typer.Option("--record", help="Make the list from what a first picture touches.")] = False,
) -> None:
    """Read ahead what the first picture touches."""
    from danqing.box import prefetch as ahead
    from danqing.box.errors import BoxError

    places = Places.here()
    path = file or places.prefetch_list
    if record:
        from danqing.box.record import run as write_new

        say(*write_new(places, path))
        return
    if not path.is_file():
        raise BoxError("no_list", path=str(path))
    tally = ahead.run(places, path, depth)
    typer.echo(f"{tally.bytes / 2**20:.0f} MiB, {tally.ranges} reads, {tally.missing} missing")


@app.command()
def warmup(
    models: Annotated[int, typer.Option(min=0, help="So many models draw a picture.")] = 2,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until Danqing is ready.")] = 1500.0,
    and_compile: Annotated[
        bool, typer.Option("--compile", help="Then compile, as `danqing box compile` does.")
    ] = False,
) -> None:
    """Wait until Danqing is ready, then draw one picture with every preloaded model."""
    from danqing.box import warmup as warming
    from danqing.box.local import Client

    places = Places.here()
    for title, seconds in warming.run(places, Client(places), models, wait):
        typer.echo(f"{title}: {seconds:.2f} s")
    if and_compile:
        compile_networks("", 0.0)


@app.command("compile")
def compile_networks(
    sizes: Annotated[str, typer.Option(help="Sizes of pictures to compile for, as 512x512,512x768.")] = "",
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the first picture.")] = 0.0,
) -> None:
    """Compile the networks for this machine's device while Danqing goes on drawing; the engine takes them over by itself."""
    from danqing.box import compile as compiling
    from danqing.box.local import data_folder

    places = Places.here()
    compiling.wait_for_first_picture(places, wait)
    say(*compiling.told(compiling.run(places, compiling.task_of(places, data_folder(places), sizes))))


# -- looking --


@app.command()
def status(as_json: AsJson = False) -> None:
    """How far the start is, phase by phase, and whether a picture could be drawn now."""
    from danqing.box import status as looking
    from danqing.box.local import Client

    places = Places.here()
    found = looking.status(places, Client(places))
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    for en, zh in looking.lines(found):
        say(en, zh)


@app.command()
def report(
    as_json: AsJson = False, last: Annotated[bool, typer.Option("--last", help="Of the boot before.")] = False
) -> None:
    """The boot report: every phase, when it began and how long it took."""
    from danqing.box import status as looking

    places = Places.here()
    rows = looking.report(places.last_report if last else places.report)
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    for line in looking.table(rows, environment_language()):
        typer.echo(line)


@app.command()
def logs(
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="So many of the last lines.")] = 200,
    keep: Annotated[bool, typer.Option("-f", "--follow", help="Go on showing new ones.")] = False,
) -> None:
    """The log of Danqing's services and nginx."""
    from danqing.box import logs as journal

    raise typer.Exit(journal.follow(lines, keep))


@app.command()
def gpu(
    as_json: AsJson = False,
    preflight: Annotated[
        bool, typer.Option("--preflight", help="Quick, for the engine's unit: exit 1 when no engine can run.")
    ] = False,
) -> None:
    """The GPU: driver, memory, and whether a CUDA operation works."""
    from danqing.box import gpu as looking

    places = Places.here()
    found = looking.preflight(places) if preflight else looking.look(places)
    if preflight:
        looking.tell(places, found)
    if as_json:
        typer.echo(json.dumps(found.as_dict(), ensure_ascii=False))
    elif not found.error:
        for en, zh in found.lines():
            say(en, zh)
    if found.error:
        raise found.error


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check driver, CUDA, disk, memory, models, data, services, ports and clock; say what to do. Exit 1 when something is bad."""
    from danqing.box import doctor as looking
    from danqing.box.local import Client

    places = Places.here()
    found = looking.examine(places, Client(places))
    if as_json:
        typer.echo(json.dumps([{"check": row.check, "state": row.state, "en": row.en, "zh": row.zh} for row in found]))
    else:
        words = {"ok": "正常", "warning": "注意", "bad": "故障"}
        for row in found:
            say(f"{row.state:<8} {row.check:<8} {row.en}", f"{words[row.state]}  {row.check:<8} {row.zh}")
    if any(row.state == "bad" for row in found):
        raise typer.Exit(1)


class Turn(StrEnum):
    """What to do with the way out."""

    ON = "on"
    OFF = "off"


@app.command("outbound")
def way_out(
    turn: Annotated[Turn | None, typer.Argument(help="Without it: says how it stands.", show_default=False)] = None,
) -> None:
    """Let the web service reach other machines, or not (the default). Webhooks, OpenID Connect and picture addresses need it."""
    from danqing.box import outbound

    places = Places.here()
    if turn is not None:
        outbound.turn(places, turn is Turn.ON)
    if outbound.is_open(places):
        say("The web service may reach other machines.", "网页服务可以访问其他机器。")
    else:
        say("The web service reaches this machine only.", "网页服务只能访问本机。")


@app.command()
def bundle(
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")] = Path("danqing-bundle.tar.gz"),
) -> None:
    """Pack logs, versions and settings for whoever helps; passwords, sessions, prompts and pictures stay out."""
    from danqing.box import logs as journal
    from danqing.box.local import Client

    places = Places.here()
    journal.bundle(places, Client(places), output)
    say(f"{output}: look into it before you send it", f"{output}：发送前请先查看内容")


# -- passwords, backup --


@app.command()
def password(
    reset: Annotated[bool, typer.Option("--reset", help="Make another one; every login ends.")] = False,
    ask: Annotated[bool, typer.Option("--ask", help="With --reset: type it instead of having one made up.")] = False,
) -> None:
    """Show the administrator's password, or make another. Needs root."""
    from danqing.box import password as keys

    places = Places.here()
    if not (reset or ask):
        typer.echo(keys.show(places))
        return
    wanted = typer.prompt("New password / 新密码", hide_input=True, confirmation_prompt=True) if ask else ""
    new = keys.reset(places, wanted)
    if not ask:
        typer.echo(new)


@app.command()
def backup(
    output: Annotated[Path, typer.Argument(help="The .tar.gz to write.")],
    models: Annotated[bool, typer.Option("--models", help="Also the models that were added to the image's.")] = False,
    logins: Annotated[bool, typer.Option("--logins", help="Also the password's hash.")] = False,
) -> None:
    """Save the database, pictures and settings into one file; Danqing may go on meanwhile."""
    from danqing.box import backup as saving
    from danqing.box.local import data_folder
    from danqing.cli import check_writable

    check_writable(output)
    done = saving.save(data_folder(Places.here()), output.absolute(), models=models, logins=logins)
    say(f"{output}: {done.files} files, {done.bytes >> 20} MB", f"{output}：{done.files} 个文件，{done.bytes >> 20} MB")


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(help="A file that `backup` wrote.")],
    force: Annotated[bool, typer.Option("--force", help="Set pictures and jobs that are there aside first.")] = False,
) -> None:
    """Put a backup back. Danqing must be stopped; a backup of a newer Danqing is refused."""
    from danqing.box import backup as saving
    from danqing.box.local import data_folder

    done = saving.restore(data_folder(Places.here()), source, force=force)
    say(f"restored {done.files} files, {done.bytes >> 20} MB", f"已恢复 {done.files} 个文件，{done.bytes >> 20} MB")


# -- ends --


@app.command("watch-spot")
def watch_spot() -> None:
    """Watch for the notice that a spot machine is taken back; then finish what is drawn and stop. Run by systemd."""
    from danqing.box import spot
    from danqing.box.local import Client
    from danqing.box.metadata import Metadata

    places = Places.here()
    spot.watch(places, Metadata(), Client(places), typer.echo)


@app.command("idle-stop")
def idle_stop(
    minutes: Annotated[
        int, typer.Option(min=-1, help="Minutes without a job; -1 is DANQING_BOX_IDLE_MINUTES, 0 is off.")
    ] = -1,
) -> None:
    """Power the machine off when nobody has drawn for so long. Run by a timer every minute; off by default."""
    from danqing.box import idle
    from danqing.box.local import Client

    places = Places.here()
    wanted = idle.minutes_wanted() if minutes < 0 else minutes
    typer.echo(idle.check(places, Client(places), wanted, idle.power_off))
