"""Reading ahead: what is listed is read, what is in memory is recorded; with real files and the kernel's own answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from danqing.box import prefetch, record
from danqing.box.errors import BoxError
from danqing.box.places import Places
from danqing.box.prefetch import Range, Tally
from tests.boxcli.conftest import box, well

PAGE = record.PAGE
MEGABYTE = 1 << 20


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """16 MiB on the disk and out of the page cache."""
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(MEGABYTE) * 16)
    os.sync()
    record.forget(path)
    if sum(row.length for row in record.resident(path)) > MEGABYTE:
        pytest.skip("this file system keeps its pages")
    return path


def cached(path: Path) -> int:
    return sum(row.length for row in record.resident(path))


def test_what_is_listed_is_in_memory_afterwards(places: Places, file: Path) -> None:
    places.share.mkdir(parents=True)
    prefetch.write_list(places.prefetch_list, [Range(str(file), 4 * MEGABYTE, 2 * MEGABYTE)])
    well("prefetch")
    found = record.resident(file)
    assert any(row.offset <= 4 * MEGABYTE and row.offset + row.length >= 6 * MEGABYTE for row in found)
    assert cached(file) < 12 * MEGABYTE
    row = json.loads(places.report.read_text())[0]
    assert row["name"] == "prefetch"
    assert row["note"].startswith("2 MiB in ")
    assert "64 at once" in row["note"]


def test_all_of_a_file_by_many_readers(file: Path) -> None:
    tally = Tally(16 * MEGABYTE)
    prefetch.read_all([Range(str(file), 0, 16 * MEGABYTE)], 16, 1 << 40, tally)
    assert (tally.bytes, tally.ranges, tally.missing) == (16 * MEGABYTE, 16, 0)
    assert cached(file) == 16 * MEGABYTE


def test_memory_bounds_it(file: Path) -> None:
    tally = Tally(0)
    prefetch.read_all([Range(str(file), 0, 16 * MEGABYTE)], 4, 3 * MEGABYTE, tally)
    assert tally.bytes == 3 * MEGABYTE


def test_files_that_are_gone_are_passed_over(places: Places, file: Path) -> None:
    places.share.mkdir(parents=True)
    rows = [Range("/no/such/file", 0, 10), Range(str(file), 0, MEGABYTE), Range(str(file.parent), 0, 10)]
    prefetch.write_list(places.prefetch_list, rows)
    with places.prefetch_list.open("a") as out:
        out.write("nonsense\n/a\t-1\t5\n\t\t\n")
    assert "1 MiB, 1 reads, 2 missing" in well("prefetch")


def test_without_a_list(places: Places) -> None:
    done = box("prefetch")
    assert isinstance(done.exception, BoxError)
    assert done.exception.code == "no_list"


def test_what_was_touched_is_recorded(file: Path) -> None:
    with file.open("rb") as reader:
        os.posix_fadvise(reader.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        os.pread(reader.fileno(), PAGE, 2 * MEGABYTE)
        os.pread(reader.fileno(), PAGE, 9 * MEGABYTE)
    found = record.resident(file)
    assert len(found) == 2
    assert found[0].offset <= 2 * MEGABYTE < found[0].offset + found[0].length
    assert found[1].offset <= 9 * MEGABYTE < found[1].offset + found[1].length


def test_near_ranges_become_one(file: Path) -> None:
    with file.open("rb") as reader:
        os.posix_fadvise(reader.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for page in (0, 5, 20):
            os.pread(reader.fileno(), PAGE, page * PAGE)
    assert len(record.resident(file)) == 1


def test_a_list_survives_odd_names(tmp_path: Path) -> None:
    rows = [Range("/a b/ü 丹青.bin", 0, 10), Range(os.fsdecode(b"/caf\xe9"), 4096, 1)]
    prefetch.write_list(tmp_path / "list", rows)
    assert prefetch.read_list(tmp_path / "list") == rows


def test_files_are_listed_once_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").symlink_to(tmp_path / "a")
    (tmp_path / "empty").touch()
    assert len(list(record.files([tmp_path, tmp_path / "a"]))) == 1


def test_the_short_way_in_needs_the_standard_library_only(places: Places, file: Path) -> None:
    places.share.mkdir(parents=True)
    prefetch.write_list(places.prefetch_list, [Range(str(file), 0, MEGABYTE)])
    code = (
        "import sys; from danqing.box import prefetch; prefetch.main();"
        "assert not {'typer', 'pydantic', 'starlette', 'structlog', 'numpy'} & set(sys.modules), sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert cached(file) >= MEGABYTE
