"""`danqing draw` and `danqing batch`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from danqing.errors import DanqingError

Url = Annotated[str, typer.Option("--url", envvar="DANQING_URL", help="The server; http://USER:PASSWORD@HOST logs in.")]
TokenText = Annotated[str, typer.Option("--token", envvar="DANQING_TOKEN", help="A token (danqing token new).")]
Fields = Annotated[
    list[str] | None, typer.Option("--set", help="NAME=VALUE: any other field of the WebUI's API; may be repeated.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

HERE = "http://127.0.0.1:7860"


def draw(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    url: Url = HERE,
    token: TokenText = "",
    output: Annotated[Path, typer.Option("-o", "--output", help="PNG file, or a folder that exists.")] = Path("."),
    negative: Annotated[str, typer.Option(help="What to keep out.")] = "",
    image: Annotated[Path | None, typer.Option(help="Picture to start from.")] = None,
    mask: Annotated[Path | None, typer.Option(help="White where the picture is painted anew.")] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels.")] = None,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Pictures.")] = 1,
    seed: Annotated[int, typer.Option(help="-1 is a random one.")] = -1,
    steps: Annotated[int, typer.Option(help="Sampling steps.")] = 20,
    fields: Fields = None,
    as_json: AsJson = False,
) -> None:
    """Draw at a server, follow the progress, store the pictures."""
    from danqing.client.drawing import draw as drawn
    from danqing.client.drawing import fetch, named, progress_line
    from danqing.client.http import Server

    server = Server(url, token, patience=30.0)
    values = _values(prompt, negative, image, mask, size) | {"n_iter": count, "seed": seed, "steps": steps}
    if not output.is_dir() and not output.parent.is_dir():
        raise DanqingError("cannot_write", path=str(output), reason="no such folder")
    job = drawn(server, {**values, **parsed(fields)}, progress_line())
    paths = fetch(server, job, named(output, len(job["images"])))
    if as_json:
        told = {"id": job["id"], "seed": job["seed"], "images": [str(path) for path in paths]}
        typer.echo(json.dumps(told, ensure_ascii=False))
    else:
        typer.echo("\n".join(str(path) for path in paths))


def batch(
    file: Annotated[Path, typer.Argument(help="A .csv, a .jsonl, or a text file with a prompt a line.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the pictures.")],
    url: Url = HERE,
    token: TokenText = "",
    parallel: Annotated[int, typer.Option(min=1, max=256, help="Jobs at the server at once.")] = 8,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to wait for a server that is away or busy.")] = 600.0,
    fields: Fields = None,
    as_json: AsJson = False,
) -> None:
    """Draw every row of a file; the same command again goes on where it was broken off."""
    from danqing.client.batch import Batch, rows_of
    from danqing.client.http import Server

    outcome = Batch(Server(url, token, patience), out, parallel).run(rows_of(file, parsed(fields)))
    if as_json:
        typer.echo(json.dumps(outcome.as_dict(), ensure_ascii=False))
    else:
        for line, text in outcome.failed:
            typer.echo(f"{file}:{line}: {text}", err=True)
        typer.echo(f"{outcome.done} + {outcome.skipped} / {outcome.done + outcome.skipped + len(outcome.failed)}")
    if outcome.failed:
        raise typer.Exit(1)


def parsed(fields: list[str] | None) -> dict[str, Any]:
    """Fields of `--set NAME=VALUE`; a value that reads as JSON is meant so.

    Raises:
        DanqingError: `invalid_field`.
    """
    found: dict[str, Any] = {}
    for text in fields or ():
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise DanqingError("invalid_field", field="--set", reason="NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _values(prompt: str, negative: str, image: Path | None, mask: Path | None, size: str | None) -> dict[str, Any]:
    from danqing.client.drawing import picture_text

    values: dict[str, Any] = {"kind": "txt2img", "prompt": prompt, "negative_prompt": negative}
    if image is not None:
        values |= {"kind": "img2img", "init_images": [picture_text(image)]}
    if mask is not None:
        values |= {"mask": picture_text(mask), "inpainting_fill": 1}
    if size is not None:
        width, sign, height = size.lower().replace("×", "x").partition("x")
        if not (sign and width.isdecimal() and height.isdecimal()):
            raise DanqingError("invalid_field", field="--size", reason="WIDTHxHEIGHT, such as 512x768")
        values["width"], values["height"] = int(width), int(height)
    return values
