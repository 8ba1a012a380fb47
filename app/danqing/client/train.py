"""`danqing train`: pictures in, a trained file out; on this machine, or at a server with `--url`."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from danqing.client.cli import AsJson, TokenText, parsed
from danqing.errors import DanqingError, environment_language

if TYPE_CHECKING:
    from danqing.client.http import Server
    from danqing.train.folder import Training

Tell = Callable[[int, int, float | None], None]

PACE = 0.5
"""Seconds between two looks at a training on this machine."""

PAUSED = 130
"""Exit code of a training that Ctrl-C has paused, as shells have it."""


def train(
    pictures: Annotated[
        str, typer.Argument(help="Folder or zip; with --url a data set of the server does, too. Not with --resume.")
    ] = "",
    name: Annotated[str, typer.Option(help="Name of the file that is made, and the word that calls it.")] = "",
    method: Annotated[
        str, typer.Option(help="lora, textual_inversion, dreambooth, dreambooth_lora or hypernetwork.")
    ] = "lora",
    preset: Annotated[str, typer.Option(help="Settings that suit: t4, a10g or cpu-mini.")] = "t4",
    model: Annotated[str, typer.Option(help="Title, name or hash of a checkpoint.")] = "",
    fields: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE: any other field of the recipe; may be repeated.")
    ] = None,
    resume: Annotated[str, typer.Option(help="Go on with this training, by its id.")] = "",
    data: Annotated[Path, typer.Option(help="Data folder of a training on this machine.")] = Path("data"),
    url: Annotated[
        str,
        typer.Option("--url", envvar="DANQING_URL", help="Train at this server; http://USER:PASSWORD@HOST logs in."),
    ] = "",
    token: TokenText = "",
    as_json: AsJson = False,
) -> None:
    """Train a LoRA, an embedding, a hypernetwork or a model on pictures. Ctrl-C pauses; --resume goes on."""
    if not resume and not (pictures and name):
        raise DanqingError("invalid_field", field="--name" if pictures else "PICTURES", reason="is missing")
    values = {"method": method, "name": name, "model": model, **parsed(fields)}
    if url:
        from danqing.client.http import Server

        told = at_server(Server(url, token, patience=30.0), pictures, {**values, "preset": preset}, resume)
    else:
        told = here(data.resolve(), pictures, values, preset, resume)
    files = [str(file["path"]) for file in told["files"]]
    typer.echo(json.dumps(told, ensure_ascii=False) if as_json else "\n".join(files))


def at_server(server: Server, pictures: str, values: dict[str, Any], resume: str) -> dict[str, Any]:
    """Upload what is a path here, have it trained, follow it; id, files and figures.

    Raises:
        DanqingError: what the server says; `job_failed`.
    """
    from danqing.client.drawing import followed

    if resume:
        job = server.job("POST", f"/v1/jobs/{resume}/resume")
    else:
        where = Path(pictures)
        wanted = {**values, "kind": "train", "data": uploaded(server, where) if where.exists() else pictures}
        job = server.job("POST", "/v1/jobs", {key: value for key, value in wanted.items() if value != ""})
    tell = progress_line()
    try:
        job = followed(server, job, lambda told: tell(told["training"]["step"], told["training"]["steps"], None))
    except KeyboardInterrupt:
        server.ask("POST", f"/v1/jobs/{job['id']}/pause")
        _paused(job["id"])
    if job["state"] != "done":
        error = job["error"] or {"message": job["state"]}
        raise DanqingError("job_failed", job=job["id"], reason=error["message"])
    result = server.ask("GET", f"/v1/jobs/{job['id']}/training")["result"] or {}
    return {"id": job["id"], "files": result.get("files", []), "figures": result.get("figures", {})}


def uploaded(server: Server, where: Path) -> str:
    """A folder's pictures and captions, those of folders below it too, or a zip, as a data set of the server; its name.

    Raises:
        DanqingError: `cannot_read`, `train_no_pictures`, `train_archive`, or what the server says.
    """
    from danqing.train.captions import SIDECARS
    from danqing.train.data import ENDINGS
    from danqing.train.settings import Limits
    from danqing.train.source import opened

    with opened(where, Limits()) as source:
        files = [name for name in source.names() if name.lower().endswith((*ENDINGS, *SIDECARS))]
        pictures = {hashlib.sha256(source.read(file)).hexdigest() for file in files if file.lower().endswith(ENDINGS)}
        if not pictures:
            raise DanqingError("train_no_pictures", path=where.name, reason="there are no pictures in it")
        name = _set_name(server, where, pictures)
        if where.is_dir():
            for file in files:
                server.upload(f"/v1/datasets/{name}", "files", file, source.read(file))
            return name
    try:
        content = where.read_bytes()
    except OSError as error:
        raise DanqingError("cannot_read", path=str(where), reason=error.strerror or str(error)) from None
    server.upload(f"/v1/datasets/{name}", "files", where.name, content)
    return name


def _set_name(server: Server, where: Path, pictures: set[str]) -> str:
    """As the folder or the zip is called. A set of that name that holds other pictures is another: those do not mix."""
    plain = re.sub(r"[^\w .()+-]", "_", where.resolve().stem).lstrip(" .()+-").strip()[:50] or "pictures"
    known = {row["name"] for row in server.ask("GET", "/v1/datasets")["datasets"]}
    for name in (plain, *(f"{plain}-{number}" for number in range(2, len(known) + 2))):
        if name not in known:
            break
        told = server.ask("GET", f"/v1/datasets/{quote(name)}")["pictures"]
        if {row["sha256"] for row in told} <= pictures:
            break
    return name


def here(data: Path, pictures: str, values: dict[str, Any], preset: str, resume: str) -> dict[str, Any]:
    """Train on this machine without a server; id, files and figures.

    Raises:
        DanqingError: what is wrong with the recipe, the data or the model, or what the training failed of.
    """
    from danqing.train import folder

    training = folder.find(data, resume) if resume else _created(data, pictures, values, preset)
    if training.is_running():
        raise DanqingError("train_running", path=str(training.path))
    command = [sys.executable, "-m", "danqing.train.worker", str(training.path), "--data", str(data)]
    with (training.path / "worker.log").open("ab") as log:
        worker = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        _watched(worker, training)
    failure, result = training.failure(), training.result()
    if result is not None:
        return {"id": training.id, "files": result.get("files", []), "figures": result.get("figures", {})}
    if worker.returncode == 0:
        _paused(training.id)
    raise failure or DanqingError("train_lost", attempts=1, step=_last(training)[0])


def _created(data: Path, pictures: str, values: dict[str, Any], preset: str) -> Training:
    from danqing.settings import Settings
    from danqing.train import folder, memory, recipe
    from danqing.train.data import report
    from danqing.train.settings import ROWS, Limits

    method = values["method"]
    wanted = recipe.parsed({**recipe.preset(preset, method), **values, "data": str(Path(pictures).resolve())})
    need = memory.estimate_for(data, wanted)
    found = report(Path(wanted.data), wanted.resolution or 512, Limits.of(Settings.load_known(ROWS, data)))
    language = environment_language()
    for issue in found.issues:
        typer.echo(issue.text(language), err=True)
    if found.fatal is not None:
        raise found.fatal
    line = {
        "en": f"{len(found.pictures)} pictures; about {need.megabytes} MB of the device's memory (estimated)",
        "zh": f"{len(found.pictures)} 张图片；约需设备内存 {need.megabytes} MB（估计值）",
    }
    typer.echo(line[language], err=True)
    return folder.create(data, wanted)


def _watched(worker: subprocess.Popen[bytes], training: Training) -> None:
    """Until the worker has ended; Ctrl-C has it save its state."""
    tell = progress_line()
    while worker.poll() is None:
        try:
            tell(*_last(training))
            time.sleep(PACE)
        except KeyboardInterrupt:
            worker.send_signal(signal.SIGTERM)
    tell(*_last(training))


def _last(training: Training) -> tuple[int, int, float | None]:
    rows = training.rows()
    return (rows[-1]["step"], rows[-1]["steps"], rows[-1].get("loss")) if rows else (0, 0, None)


def _paused(training: str) -> None:
    words = {
        "en": f"Paused. To go on: danqing train --resume {training}",
        "zh": f"已暂停。继续：danqing train --resume {training}",
    }
    typer.echo("\n" + words[environment_language()], err=True)
    raise typer.Exit(PAUSED)


def progress_line() -> Tell:
    """A teller that keeps one line on a terminal's stderr; silent where stderr is no terminal."""
    if not sys.stderr.isatty():
        return lambda step, steps, loss: None

    def tell(step: int, steps: int, loss: float | None) -> None:
        filled = round(30 * step / steps) if steps else 0
        text = f"[{'#' * filled:30}] {step}/{steps}" + ("" if loss is None else f"  loss {loss:.4f}")
        sys.stderr.write("\r\x1b[K" + ("" if steps and step >= steps else text))
        sys.stderr.flush()

    return tell
