"""`danqing gallery …`: the index of pictures, while no server uses the data folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from danqing.database import Database
from danqing.errors import DanqingError, environment_language
from danqing.gallery import upkeep
from danqing.gallery.export import exported
from danqing.gallery.store import Gallery
from danqing.jobs.store import MIGRATIONS, DataLock

app = typer.Typer(name="gallery", help="Pictures on disk.", no_args_is_help=True, add_completion=False)

DataFolder = Annotated[Path, typer.Option("--data", help="Folder of models, pictures and settings.")]
Owner = Annotated[str, typer.Option(help="Whose pictures; local where no login is asked.")]


@app.command()
def rebuild(data: DataFolder = Path("data"), owner: Owner = "admin") -> None:
    """Index the PNG files below outputs/ that the index lacks, as pictures of OWNER."""
    with opened(data) as gallery:
        typer.echo(upkeep.rebuild(gallery.data, gallery.database, owner))


@app.command()
def export(output: Annotated[Path, typer.Argument()], data: DataFolder = Path("data"), owner: Owner = "admin") -> None:
    """Write all saved pictures of OWNER, and index.json, into a zip file."""
    with opened(data) as gallery, output.open("xb") as file:
        for piece in exported(gallery, owner):
            file.write(piece)
        typer.echo(output)


@contextmanager
def opened(data: Path) -> Iterator[Gallery]:
    """The gallery of a data folder that nobody else uses; an error of ours, or of a file, ends the program."""
    try:
        lock = DataLock(data.absolute())
        try:
            database = Database.open(data.absolute() / "danqing.db", MIGRATIONS)
            try:
                upkeep.recover(data.absolute(), database)
                yield Gallery(data.absolute(), database)
            finally:
                database.close()
        finally:
            lock.release()
    except DanqingError as error:
        sys.exit(error.text(environment_language()))
    except OSError as error:
        sys.exit(str(error))
