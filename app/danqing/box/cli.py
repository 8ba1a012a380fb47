"""`danqing box …`: what the units run and what people type on the machine. Each command imports only what it needs."""

from __future__ import annotations

import json
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
) -> None:
    """Wait until Danqing is ready, then draw one picture with every preloaded model."""
    from danqing.box import warmup as warming
    from danqing.box.local import Client

    places = Places.here()
    for title, seconds in warming.run(places, Client(places), models, wait):
        typer.echo(f"{title}: {seconds:.2f} s")


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
