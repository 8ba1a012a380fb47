"""`danqing user`: who may log in. Works on the data folder, also while a server uses it: changes hold at once."""

from __future__ import annotations

import json
import secrets
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from danqing.api.users import ARTIST, Users, one_form, told
from danqing.errors import environment_language

app = typer.Typer(name="user", help="Users: people and programs.", no_args_is_help=True, add_completion=False)

DataFolder = Annotated[Path, typer.Option("--data", help="Folder of models, pictures and settings.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="The user's name.")]
FromInput = Annotated[
    bool, typer.Option("--stdin", help="Read the password from standard input; else one is made up and shown.")
]


@app.command()
def add(
    name: Name,
    role: Annotated[str, typer.Option(help="admin, artist, or api (for programs: no page).")] = ARTIST,
    subject: Annotated[
        str, typer.Option(help='"ISSUER SUBJECT" of OpenID Connect; such a user gets no password.')
    ] = "",
    stdin: FromInput = False,
    data: DataFolder = Path("data"),
) -> None:
    """Add a user and show the password that was made up."""
    password = None if subject else _password(stdin)
    Users(data).add(name, role, password, subject or None)
    if password is not None and not stdin:
        typer.echo(password)


@app.command("list")
def show(data: DataFolder = Path("data"), as_json: AsJson = False) -> None:
    """All users."""
    rows = [told(user) for user in Users(data).all()]
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        created = time.strftime("%Y-%m-%d", time.gmtime(row["created"]))
        typer.echo(f"{row['name']:<20} {row['role']:<7} {'disabled' if row['disabled'] else 'enabled':<9} {created}")


@app.command()
def password(name: Name, stdin: FromInput = False, data: DataFolder = Path("data")) -> None:
    """Give a user another password; all of that user's logins end."""
    wanted = _password(stdin)
    Users(data).set_password(name, wanted)
    if not stdin:
        typer.echo(wanted)


@app.command()
def role(
    name: Name, role: Annotated[str, typer.Argument(help="admin, artist or api.")], data: DataFolder = Path("data")
) -> None:
    """Give a user another role."""
    Users(data).set_role(name, role)


@app.command()
def disable(name: Name, data: DataFolder = Path("data")) -> None:
    """Keep a user out, at once: sessions end, tokens open nothing. Pictures and jobs stay."""
    Users(data).disable(name)


@app.command()
def enable(name: Name, data: DataFolder = Path("data")) -> None:
    """Let a user in again."""
    Users(data).disable(name, False)


@app.command()
def limit(
    name: Name,
    jobs: Annotated[int | None, typer.Option(min=0, help="Most jobs that wait or run at once.")] = None,
    images: Annotated[int | None, typer.Option(min=0, help="Most pictures in one job.")] = None,
    weight: Annotated[
        float | None, typer.Option(min=0.01, max=100, help="Share of the work; 1 is the usual one.")
    ] = None,
    data: DataFolder = Path("data"),
) -> None:
    """Set a user's limits; those that are not named go back to the settings' own."""
    Users(data).limit(name, {"jobs": jobs, "images": images, "weight": weight})


@app.command()
def logout(name: Name, data: DataFolder = Path("data")) -> None:
    """Log a user out everywhere."""
    users = Users(data)
    users.end_sessions(users.get(name).name)


@app.command()
def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data: DataFolder = Path("data"),
) -> None:
    """Take a user away for good: nobody gets the name again. Logins and tokens end at once; a running server, or the next start,
    cancels jobs, puts pictures into the trash and deletes options, presets and pictures to train on."""
    users = Users(data)
    found = users.get(one_form(name))
    if not yes:
        zh = environment_language() == "zh"
        asked = (
            f"删除用户 {found.name}？此名字今后不能再用。"
            if zh
            else f"Remove {found.name}? Nobody can have the name again."
        )
        typer.confirm(asked, abort=True)
    users.remove(found.name)


def _password(stdin: bool) -> str:
    return sys.stdin.readline().rstrip("\r\n") if stdin else secrets.token_urlsafe(15)
