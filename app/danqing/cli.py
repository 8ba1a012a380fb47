"""The command line. Heavy imports happen inside the commands, so that `danqing --help` is instant."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from danqing import __version__
from danqing.client import cli as client
from danqing.client import train as training
from danqing.errors import DanqingError, environment_language

app = typer.Typer(
    name="danqing",
    help="Danqing 丹青: a Stable Diffusion box.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

BAD_INPUT = 2
FAILED = 1
INFO_BYTES = 512 * 2**20
"""Of a picture; /dev/zero has more."""

DataFolder = Annotated[Path, typer.Option("--data", help="Folder of models, pictures and settings.")]


class Users(StrEnum):
    """Who may draw."""

    OPEN = "open"
    LOGIN = "login"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = (
        False
    ),
) -> None:
    """Danqing 丹青: a Stable Diffusion box."""


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 7860,
    data: DataFolder = Path("data"),
    users: Annotated[
        Users | None,
        typer.Option(help="login: ask for one. open: ask for none (loopback only). Default: by the address."),
    ] = None,
) -> None:
    """Serve the page and the API."""
    login = users is Users.LOGIN or not is_loopback(host)
    if login and users is Users.OPEN:
        raise DanqingError("login_required", host=host)
    make_folder(data)
    from danqing import front

    raise typer.Exit(front.serve(front.Door(host, port, data.resolve(), login)))


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="PNG file to write.")],
    negative: Annotated[str, typer.Option(help="What to keep out.")] = "",
    seed: Annotated[int, typer.Option(help="-1 is a random one.")] = -1,
    steps: Annotated[int, typer.Option(help="Sampling steps.")] = 20,
    cfg: Annotated[float, typer.Option(help="CFG scale.")] = 7.0,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels; default: the model's own.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Name of a sampler.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Name of a schedule.")] = None,
    model: Annotated[str, typer.Option(help="Title, name or hash of a checkpoint.")] = "",
    data: DataFolder = Path("data"),
) -> None:
    """Draw one picture into a file, without a server."""
    fields: dict[str, Any] = {
        "prompt": prompt,
        "negative_prompt": negative,
        "seed": seed,
        "steps": steps,
        "cfg_scale": cfg,
        "model": model,
        **({"sampler": sampler} if sampler else {}),
        **({"scheduler": scheduler} if scheduler else {}),
    }
    check_writable(output)
    make_folder(data)
    _generate(fields, size, data.resolve(), output)


def _generate(fields: dict[str, Any], size: str | None, data: Path, output: Path) -> None:
    from danqing.app import load_settings
    from danqing.engine.catalog import check_names
    from danqing.library.index import Library
    from danqing.request import checked, parsed

    settings = load_settings(data)
    # Before the model is looked up: a broken name must not reach the disk.
    checked(parsed(fields), settings)
    checkpoint = Library(data).resolve(fields["model"])
    width, height = parse_size(size) if size else (checkpoint.native_size, checkpoint.native_size)
    request = checked(parsed({**fields, "width": width, "height": height}), settings)
    check_names(request)
    from danqing import generate as drawing

    drawing.main(request, data, output)


@app.command()
def info(
    file: Annotated[Path, typer.Argument(help="A PNG, JPEG or WebP file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the infotext of a picture."""
    from danqing.gallery import infotext

    try:
        with file.open("rb") as opened:
            content = opened.read(INFO_BYTES + 1)
    except OSError as error:
        raise DanqingError("cannot_read", path=str(file), reason=error.strerror or str(error)) from None
    if len(content) > INFO_BYTES:
        raise DanqingError("cannot_read", path=str(file), reason=f"more than {INFO_BYTES >> 20} MB")
    text, items = infotext.read_image(content)
    program = infotext.maker_of(items)
    if as_json:
        typer.echo(json.dumps({"info": text, "items": items, "parameters": infotext.parse(text)}, ensure_ascii=False))
    elif text:
        typer.echo(text)
    elif program:
        typer.echo(DanqingError("foreign_infotext", path=str(file), program=program).text(environment_language()))
    else:
        raise DanqingError("no_infotext", path=str(file))


PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command(context_settings=PASSED_ON, add_help_option=False)
def box(context: typer.Context) -> None:
    """This machine as a box: first boot, health, passwords, backup (danqing box --help)."""
    from danqing.box.cli import app as commands

    commands(context.args, prog_name="danqing box")


@app.command(context_settings=PASSED_ON, add_help_option=False)
def cloud(context: typer.Context) -> None:
    """AWS: images and machines (danqing cloud --help)."""
    from danqing.cloud.cli import app as commands

    commands(context.args, prog_name="danqing cloud")


@app.command("library", context_settings=PASSED_ON, add_help_option=False)
def library_commands(context: typer.Context) -> None:
    """Models on disk: list, hash, merge, convert, import (danqing library --help)."""
    from danqing.library.cli import app as commands

    commands(context.args, prog_name="danqing library")


@app.command("gallery", context_settings=PASSED_ON, add_help_option=False)
def gallery_commands(context: typer.Context) -> None:
    """Pictures on disk: index them anew, export them (danqing gallery --help)."""
    from danqing.jobs.gallery_cli import app as commands

    commands(context.args, prog_name="danqing gallery")


@app.command("token", context_settings=PASSED_ON, add_help_option=False)
def token_commands(context: typer.Context) -> None:
    """Tokens of programs: new, list, revoke (danqing token --help)."""
    from danqing.client.tokens import app as commands

    commands(context.args, prog_name="danqing token")


@app.command("user", context_settings=PASSED_ON, add_help_option=False)
def user_commands(context: typer.Context) -> None:
    """Users: add, list, disable, roles, limits (danqing user --help)."""
    from danqing.client.users import app as commands

    commands(context.args, prog_name="danqing user")


draw = app.command()(client.draw)
batch = app.command()(client.batch)
train = app.command()(training.train)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. A name other than localhost is not looked up: it may change."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def parse_size(text: str) -> tuple[int, int]:
    """Width and height in pixels of "WxH".

    Raises:
        DanqingError: `invalid_field`.
    """
    match = re.fullmatch(r"\s*(-?\d{1,9})\s*[xX×]\s*(-?\d{1,9})\s*", text)
    if match is None:
        raise DanqingError("invalid_field", field="--size", reason="WIDTHxHEIGHT, such as 512x768")
    return int(match[1]), int(match[2])


def make_folder(path: Path) -> None:
    """Make `path` and its parents.

    Raises:
        DanqingError: `cannot_write`.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DanqingError("cannot_write", path=str(path), reason=error.strerror or str(error)) from None


def check_writable(path: Path) -> None:
    """Refuse an output that could not be written before time is spent on the picture.

    Raises:
        DanqingError: `cannot_write`.
    """
    folder = path.parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise DanqingError("cannot_write", path=str(path), reason="no folder that can be written")


def exit_code(error: DanqingError) -> int:
    """2 for what the caller can mend (a row of the command line, or a 4xx), 1 for what failed."""
    return BAD_INPUT if error.status == 2 or 400 <= error.status < 500 else FAILED


def main() -> None:
    """Entry point: errors are one sentence on stderr."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal without UTF-8 must not turn a sentence into a traceback.
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    try:
        app()
    except DanqingError as error:
        sys.stderr.write(error.text(environment_language()) + "\n")
        raise SystemExit(exit_code(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
