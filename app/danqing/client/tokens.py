"""`danqing token`: bearer tokens of programs, made and revoked where the data folder is."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from danqing.api.tokens import DRAW, Token, Tokens

app = typer.Typer(name="token", help="Tokens of programs.", no_args_is_help=True, add_completion=False)

DataFolder = Annotated[Path, typer.Option("--data", help="Folder of models, pictures and settings.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="What it is for; shown in the list.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="read, draw, train, metrics or admin; may be repeated. Default: draw.")
    ] = None,
    owner: Annotated[str, typer.Option(help="User whose jobs and pictures they are.")] = "admin",
    data: DataFolder = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Make a token. Its text is shown once and not kept."""
    text, row = Tokens(data).new(name, scope or [DRAW], owner)
    typer.echo(json.dumps({"token": text, **_told(row)}) if as_json else text)


@app.command("list")
def show(data: DataFolder = Path("data"), as_json: AsJson = False) -> None:
    """Tokens without their texts."""
    rows = [_told(row) for row in Tokens(data).all()]
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        typer.echo(f"{row['id']}  {row['created']}  {','.join(row['scopes'])}  {row['owner']}  {row['name']}")


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(help="The id that the list shows.")], data: DataFolder = Path("data")
) -> None:
    """End a token at once."""
    Tokens(data).revoke(token)


def _told(row: Token) -> dict[str, str | list[str]]:
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.created))
    return {"id": row.id, "name": row.name, "owner": row.owner, "scopes": list(row.scopes), "created": created}
