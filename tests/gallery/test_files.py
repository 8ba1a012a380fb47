"""Files are whole or not there."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from danqing.gallery import files

WRITER = """
import sys
from pathlib import Path
from danqing.gallery.files import write_whole
for number in range(10**6):
    write_whole(Path(sys.argv[1]) / f"{number:05d}-1.png", bytes([number % 256]) * 20_000_000)
"""


def test_a_writer_killed_at_any_moment_leaves_whole_files(tmp_path: Path) -> None:
    for wait in (0.05, 0.12, 0.2):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)])
        while not list(tmp_path.iterdir()):
            time.sleep(0.002)
        time.sleep(wait)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        for path in tmp_path.glob("[!.]*"):
            assert path.stat().st_size == 20_000_000
        for path in tmp_path.iterdir():
            path.unlink()


def test_no_room_leaves_nothing(tmp_path: Path) -> None:
    old, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError) as caught:
            files.write_whole(tmp_path / "00000-1.png", bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (old, hard))
    assert files.is_full(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_program_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "00000-1.png"
    path.write_bytes(b"somebody's")
    with pytest.raises(FileExistsError):
        files.write_whole(path, b"mine")
    assert path.read_bytes() == b"somebody's"
    assert [entry.name for entry in tmp_path.iterdir()] == ["00000-1.png"]


def test_where_there_are_no_links_the_file_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "no links on this file system")

    monkeypatch.setattr(os, "link", refuse)
    files.write_whole(tmp_path / "00000-1.png", b"mine")
    with pytest.raises(FileExistsError):
        files.write_whole(tmp_path / "00000-1.png", b"again")
    assert (tmp_path / "00000-1.png").read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], 0),
        (["00000-5.png"], 1),
        (["00007-5.png", "00003-9.jpg"], 8),
        (["grid-0009.png", "notes.txt", "99-.x"], 100),
        (["123456-1.png"], 123457),
        ([".00009-1.png.part"], 0),
    ],
)
def test_next_number(tmp_path: Path, names: list[str], expected: int) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert files.next_number(tmp_path) == expected


def test_make_folder_makes_all_of_them(tmp_path: Path) -> None:
    files.make_folder(tmp_path / "outputs" / "a" / "b", tmp_path)
    files.make_folder(tmp_path / "outputs" / "a" / "b", tmp_path)
    assert (tmp_path / "outputs" / "a" / "b").is_dir()
