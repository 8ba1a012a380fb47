"""Backup and restore, with a real database that is being written."""

from __future__ import annotations

import io
import json
import sqlite3
import tarfile
import threading
import time
from pathlib import Path

import pytest

from danqing.box import backup
from danqing.box.errors import BoxError
from danqing.box.places import Places
from danqing.database import Database
from danqing.gallery import presets
from danqing.jobs.store import MIGRATIONS, DataLock
from tests.boxcli.conftest import box, well

OWN_TEXTS = ("styles/li.csv", "styles.csv", "wildcards/colours.txt", "blocklist.txt", "webui-options.json")


@pytest.fixture
def used(places: Places) -> Places:
    """A machine with a job, two pictures, a setting, a model and a login."""
    data = places.data
    (data / "outputs/txt2img-images/2026-11-24").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (data / "outputs/txt2img-images/2026-11-24" / name).write_bytes(name.encode() * 100)
    (data / "outputs/half.png.part").write_bytes(b"half")
    (data / "settings.toml").write_text("limit_steps = 60\n")
    presets.save(data, "li", "mine", {"steps": 7})
    for name in OWN_TEXTS:
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_text(name)
    (data / "models/Lora").mkdir(parents=True)
    (data / "models/Lora/mine.safetensors").write_bytes(b"weights")
    (data / "secrets").mkdir()
    (data / "secrets/admin.hash").write_text("hash")
    (data / "secrets/box.token").write_text("token")
    database = Database.open(data / "danqing.db", MIGRATIONS)
    add_job(database, "one")
    database.close()
    return places


def add_job(database: Database, name: str) -> None:
    """A finished job; columns that later migrations add must have defaults, or get 0 here."""
    known = {"id": name, "owner": "local", "request": "{}", "state": "done"}
    needed = [
        row["name"] for row in database.rows("PRAGMA table_info(job)") if row["notnull"] and not row["dflt_value"]
    ]
    row = known | {column: 0 for column in needed if column not in known}
    marks = ", ".join("?" for _ in row)
    database.write(lambda sql: sql.execute(f"INSERT INTO job ({', '.join(row)}) VALUES ({marks})", list(row.values())))


def jobs(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return sorted(row[0] for row in connection.execute("SELECT id FROM job"))
    finally:
        connection.close()


def test_what_is_saved_comes_back(used: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "backup.tar.gz"
    assert f"{5 + len(OWN_TEXTS)} files" in well("backup", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("DANQING_BOX_ROOT", str(tmp_path / "other"))
    well("restore", str(file))
    data = Places.here().data
    assert jobs(data / "danqing.db") == ["one"]
    assert (data / "outputs/txt2img-images/2026-11-24/a.png").read_bytes() == b"a.png" * 100
    assert (data / "settings.toml").read_text() == "limit_steps = 60\n"
    assert presets.load(data, "li", "mine") == {"steps": 7}
    assert [(data / name).read_text() for name in OWN_TEXTS] == [*OWN_TEXTS]
    assert not (data / "models").exists()
    assert not (data / "secrets").exists()
    assert (data / "danqing.db").stat().st_mode & 0o777 == 0o600
    Database.open(data / "danqing.db", MIGRATIONS).close()


def test_models_and_logins_only_when_asked_and_never_the_token(used: Places, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar.gz"
    well("backup", "--models", "--logins", str(file))
    with tarfile.open(file) as archive:
        names = archive.getnames()
    assert "models/Lora/mine.safetensors" in names
    assert "secrets/admin.hash" in names
    assert not [name for name in names if "token" in name or name.endswith(".part")]


def test_it_may_be_in_use_meanwhile(used: Places, tmp_path: Path) -> None:
    database = Database.open(used.data / "danqing.db", MIGRATIONS)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            add_job(database, f"busy-{number:06d}")
            time.sleep(0.001)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for turn in range(3):
            backup.save(used.data, tmp_path / f"{turn}.tar.gz")
    finally:
        stop.set()
        writer.join()
        database.close()
    for turn in range(3):
        backup.restore(tmp_path / f"data-{turn}", tmp_path / f"{turn}.tar.gz")
        path = tmp_path / f"data-{turn}" / "danqing.db"
        found = jobs(path)
        assert "one" in found
        assert [name for name in found if name != "one"] == [f"busy-{n:06d}" for n in range(1, len(found))]
        assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_what_is_there_is_not_hidden_unasked(used: Places, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar.gz"
    well("backup", str(file))
    done = box("restore", str(file))
    assert isinstance(done.exception, BoxError)
    assert done.exception.code == "data_not_empty"
    well("restore", "--force", str(file))
    aside = next(used.data.glob("before-restore-*"))
    assert jobs(aside / "danqing.db") == ["one"]
    assert (aside / "outputs/txt2img-images/2026-11-24/a.png").exists()


def test_not_over_a_running_danqing(used: Places, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar.gz"
    well("backup", str(file))
    lock = DataLock(used.data)
    try:
        done = box("restore", "--force", str(file))
    finally:
        lock.release()
    assert isinstance(done.exception, BoxError)
    assert done.exception.code == "in_use"
    assert "systemctl stop" in str(done.exception)


def rewritten(source: Path, target: Path, change: dict[str, object], extra: dict[str, bytes] | None = None) -> Path:
    """The backup with another manifest, and other contents of some files."""
    with tarfile.open(source) as old, tarfile.open(target, "w:gz") as new:
        for member in old:
            content = old.extractfile(member).read()  # type: ignore[union-attr]
            if member.name == backup.MANIFEST:
                content = json.dumps({**json.loads(content), **change}).encode()
            content = (extra or {}).get(member.name, content)
            info = tarfile.TarInfo(member.name)
            info.size = len(content)
            new.addfile(info, io.BytesIO(content))
    return target


def test_a_newer_schema_is_refused(used: Places, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar.gz"
    well("backup", str(file))
    newer = rewritten(file, tmp_path / "newer.tar.gz", {"database": backup.known_version() + 1})
    done = box("restore", "--force", str(newer))
    assert isinstance(done.exception, BoxError)
    assert done.exception.code == "backup_newer"
    assert not list(used.data.glob("before-restore-*"))


def test_an_altered_backup_changes_nothing(used: Places, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar.gz"
    well("backup", str(file))
    picture = "outputs/txt2img-images/2026-11-24/a.png"
    altered = rewritten(file, tmp_path / "altered.tar.gz", {}, {picture: b"other"})
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    (tmp_path / "text").write_text("no archive")
    for broken in (altered, cut, tmp_path / "text", tmp_path / "missing"):
        done = box("restore", "--force", str(broken))
        assert isinstance(done.exception, BoxError), broken
        assert done.exception.code == "backup_broken", broken
    assert (used.data / picture).read_bytes() == b"a.png" * 100
    assert not list(used.data.glob("before-restore-*"))
    assert not list(used.data.glob(".restore-*"))


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "outputs/../../evil", "secrets/box.token", "run/drain"])
def test_names_that_lead_elsewhere_are_refused(used: Places, tmp_path: Path, name: str) -> None:
    file = tmp_path / "backup.tar.gz"
    well("backup", str(file))
    rows = [{"name": name, "sha256": "0" * 64, "bytes": 1}]
    evil = rewritten(file, tmp_path / "evil.tar.gz", {"files": rows})
    done = box("restore", "--force", str(evil))
    assert isinstance(done.exception, BoxError)
    assert done.exception.code == "backup_broken"


def test_an_empty_machine_has_an_empty_backup(places: Places, tmp_path: Path) -> None:
    places.data.mkdir(parents=True)
    assert "0 files" in well("backup", str(tmp_path / "empty.tar.gz"))


def test_a_full_disk_is_said_before_anything_is_written(
    used: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    done = box("backup", str(tmp_path / "backup.tar.gz"))
    assert isinstance(done.exception, BoxError)
    assert done.exception.code == "no_room"
    assert not list(tmp_path.glob("*backup*"))
