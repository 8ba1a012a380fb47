"""Backup and restore of what users made: the database, pictures, settings, and, where asked for, the logins.

A backup is one .tar.gz with a `manifest.json` first: what wrote it, the database's version, and a sha256 of every file. The
database is copied through SQLite's own backup, so it may be in use; pictures are written whole or not at all, so they may be too.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from danqing import __version__
from danqing.box import tools
from danqing.box.errors import BoxError
from danqing.box.places import USER
from danqing.database import backup as copy_database
from danqing.errors import DanqingError
from danqing.jobs.store import MIGRATIONS, DataLock

DATABASE = "danqing.db"
PARTS = (
    *("outputs", "inputs", "datasets", "embeddings", "interrogate", "presets", "styles", "wildcards"),
    *("settings.toml", "styles.csv", "options.json", "webui-options.json", "blocklist.txt"),
)
"""What belongs to users, below the data folder; what is missing is passed over. Models are large and can be fetched again."""
SECRETS = ("secrets/admin.hash",)
USERS = "secrets/users.db"
"""Who may log in; without their sessions, some of which may have been ended since."""
MODELS = "models"
MANIFEST = "manifest.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Done:
    """What a backup or a restore dealt with."""

    files: int
    bytes: int
    database: int
    """Version of its schema, 0 where there is none."""


def known_version() -> int:
    """Newest schema of the database that this Danqing knows."""
    return len(list(MIGRATIONS.glob("[0-9]*.sql")))


def save(data: Path, target: Path, *, models: bool = False, logins: bool = False) -> Done:
    """Write a backup, whole or not at all.

    Args:
        models: also what lies in `models/` (links to the image's own are left out).
        logins: also the password's hash and the users.

    Raises:
        DanqingError: `cannot_write`; BoxError: `no_room`.
    """
    parts = [*PARTS, *([MODELS] if models else []), *(SECRETS if logins else [])]
    with tempfile.TemporaryDirectory(prefix="danqing-backup-", dir=target.parent) as folder:
        copy = Path(folder) / DATABASE
        version = _copy_database(data / DATABASE, copy)
        files = [(DATABASE, copy)] if version else []
        users = Path(folder) / "users.db"
        files += [(USERS, users)] if logins and _copy_users(data / USERS, users) else []
        files += [(path.relative_to(data).as_posix(), path) for part in parts for path in _below(data / part)]
        _check_room(target.parent, sum(path.stat().st_size for _, path in files))
        half = Path(folder) / "backup.tar.gz"
        size = _write(half, files, version)
        half.chmod(0o600)
        half.replace(target)
    return Done(len(files), size, version)


def _copy_database(source: Path, target: Path) -> int:
    if not source.is_file():
        return 0
    with contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=30)) as connection:
        copy_database(connection, target)
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _copy_users(source: Path, target: Path) -> bool:
    if not _copy_database(source, target):
        return False
    with contextlib.closing(sqlite3.connect(target)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("DELETE FROM session")
        connection.commit()
    return True


def _below(path: Path) -> Iterator[Path]:
    if path.is_file() and not path.is_symlink():
        yield path
    elif path.is_dir():
        for top, _, names in os.walk(path):
            found = (Path(top, name) for name in sorted(names) if not name.endswith(".part"))
            yield from (file for file in found if file.is_file() and not file.is_symlink())


def _check_room(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise BoxError("no_room", path=str(folder), free_mb=free >> 20, wanted_mb=wanted >> 20)


def _write(target: Path, files: list[tuple[str, Path]], version: int) -> int:
    rows, size = [], 0
    for name, path in files:
        with path.open("rb") as file:
            rows.append({"name": name, "sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": file.tell()})
    head = {"format": FORMAT, "danqing": __version__, "database": version, "made": time.time(), "files": rows}
    with tarfile.open(target, "w:gz", compresslevel=1) as archive:
        content = json.dumps(head).encode()
        info = tarfile.TarInfo(MANIFEST)
        info.size, info.mode = len(content), 0o600
        archive.addfile(info, io.BytesIO(content))
        for row, (name, path) in zip(rows, files, strict=True):
            with path.open("rb") as file:
                info = tarfile.TarInfo(name)
                info.size, info.mode, info.mtime = int(str(row["bytes"])), 0o600, int(path.stat().st_mtime)
                archive.addfile(info, file)
            size += info.size
    return size


# -- restoring --


def restore(data: Path, source: Path, *, force: bool = False) -> Done:
    """Put a backup into the data folder. It is unpacked and checked beside it first; the folder changes only when all is right.

    Raises:
        BoxError: `backup_broken`, `backup_newer`, `data_not_empty`, `in_use`, `no_room`.
    """
    data.mkdir(parents=True, exist_ok=True)
    head = _manifest(source)
    version = int(head["database"])
    if version > known_version():
        raise BoxError("backup_newer", path=str(source), found=version, known=known_version())
    with _locked(data), tempfile.TemporaryDirectory(prefix=".restore-", dir=data) as folder:
        aside = data / f"before-restore-{time.strftime('%Y%m%d-%H%M%S')}"
        if not force and _has_work(data):
            raise BoxError("data_not_empty", path=str(data), aside=str(aside))
        _check_room(data, sum(int(row["bytes"]) for row in head["files"]))
        _unpack(source, Path(folder), head)
        _swap(Path(folder), data, aside, head)
    return Done(len(head["files"]), sum(int(row["bytes"]) for row in head["files"]), version)


@contextlib.contextmanager
def _locked(data: Path) -> Iterator[None]:
    try:
        lock = DataLock(data)
    except DanqingError:
        raise BoxError("in_use", path=str(data)) from None
    try:
        yield
    finally:
        lock.release()


def _has_work(data: Path) -> bool:
    """Whether there are pictures or jobs that a restore would hide."""
    if any(True for _ in _below(data / "outputs")):
        return True
    path = data / DATABASE
    if not path.is_file():
        return False
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM job)").fetchone()[0])
    return True


def _manifest(source: Path) -> dict[str, Any]:
    try:
        with tarfile.open(source, "r:gz") as archive:
            first = archive.next()
            file = archive.extractfile(first) if first and first.name == MANIFEST else None
            found = json.loads(file.read()) if file else None
    except (OSError, ValueError, tarfile.TarError, EOFError) as error:
        raise BoxError("backup_broken", path=str(source), reason=str(error)) from None
    if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("files"), list):
        raise BoxError("backup_broken", path=str(source), reason="no manifest of format 1")
    try:
        for row in found["files"]:
            _check_name(str(row["name"]))
            int(row["bytes"])
            str(row["sha256"])
        int(found["database"])
    except (KeyError, TypeError, ValueError) as error:
        raise BoxError("backup_broken", path=str(source), reason=f"manifest: {error}") from None
    return found


def _check_name(name: str) -> None:
    path = PurePosixPath(name)
    known = (DATABASE, *PARTS, MODELS, *SECRETS, USERS)
    if (
        path.is_absolute()
        or ".." in path.parts
        or not any(name == part or name.startswith(f"{part}/") for part in known)
    ):
        raise ValueError(f"{name} does not belong into a backup")


def _unpack(source: Path, folder: Path, head: dict[str, Any]) -> None:
    wanted = {str(row["name"]): row for row in head["files"]}
    try:
        with tarfile.open(source, "r:gz") as archive:
            for member in archive:
                if member.name in wanted and member.isfile():
                    _write_checked(archive, member, folder / member.name, wanted.pop(member.name))
    except (OSError, tarfile.TarError, EOFError) as error:
        raise BoxError("backup_broken", path=str(source), reason=str(error)) from None
    if wanted:
        raise BoxError("backup_broken", path=str(source), reason=f"{sorted(wanted)[0]} is missing or altered")


def _write_checked(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path, row: dict[str, Any]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, file = hashlib.sha256(), archive.extractfile(member)
    assert file is not None
    with target.open("xb") as out:
        while block := file.read(1 << 20):
            digest.update(block)
            out.write(block)
    target.chmod(0o600)
    os.utime(target, (member.mtime, member.mtime))
    if digest.hexdigest() != row["sha256"]:
        raise tarfile.TarError(f"{member.name} is altered")


def _swap(folder: Path, data: Path, aside: Path, head: dict[str, Any]) -> None:
    """Old parts aside, new ones in; the database's journals go with it."""
    names = sorted({PurePosixPath(str(row["name"])).parts[0] for row in head["files"]} - {MODELS, "secrets"})
    olds = [*names, *(f"{DATABASE}{end}" for end in ("-wal", "-shm") if DATABASE in names)]
    for name in olds:
        if (data / name).exists():
            aside.mkdir(exist_ok=True)
            (data / name).rename(aside / name)
    for name in names:
        (folder / name).rename(data / name)
    # Models and logins are put beside what is there, file by file.
    for path in [*_below(folder / MODELS), *_below(folder / "secrets")]:
        target = data / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        for journal in (f"{target.name}-wal", f"{target.name}-shm"):
            target.with_name(journal).unlink(missing_ok=True)
        path.replace(target)
    for path in (data / name for name in (*names, MODELS, "secrets") if (data / name).exists()):
        for file in (path, *_all(path)):
            tools.give(file, USER)


def _all(path: Path) -> Iterator[Path]:
    for top, folders, names in os.walk(path):
        yield from (Path(top, name) for name in (*folders, *names))
