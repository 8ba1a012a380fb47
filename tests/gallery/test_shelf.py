"""Search, discard and restore, favourites, links, export, retention: on a real database and a real folder."""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from danqing.errors import DanqingError
from danqing.gallery import upkeep
from danqing.gallery.export import exported
from danqing.gallery.shares import Shares
from danqing.gallery.shelf import Shelf
from danqing.jobs.gallery_cli import app

from .support import new_picture, open_gallery

DAY = 86400
EVER = float("inf")


def text(prompt: str, model: str = "mini") -> str:
    return f"{prompt}\nSteps: 20, Sampler: Euler, Seed: 42, Model hash: 0123456789, Model: {model}, Version: 1"


def test_search_by_words_model_and_time(tmp_path: Path) -> None:
    gallery, database = open_gallery(tmp_path)
    cat = gallery.add(new_picture("a", infotext=text("a red cat, 100%_sure")))
    dog = gallery.add(new_picture("b", infotext=text("a red dog", "other_model")))
    gallery.add(new_picture("c", owner="wang", infotext=text("a red cat")))
    shelf = Shelf(gallery, database)

    def found(words: str = "", **more: object) -> list[str]:
        return [one.id for one in shelf.search("li", words, **({"before": EVER, "limit": 10} | more))]  # type: ignore[arg-type]

    assert found() == found("RED") == [dog.id, cat.id]
    assert found("cat red") == found("100%_s") == [cat.id]
    assert found("100%x") == found("re_") == []
    assert found(model="other_m") == [dog.id]
    assert found(model="0123") == [dog.id, cat.id]
    assert found(before=dog.created) == found("red", before=dog.created) == [cat.id]
    assert found(since=dog.created) == [dog.id]
    assert found(limit=1) == [dog.id]
    Shares(gallery, database).like("li", cat.id)
    assert found(favourites=True) == [cat.id]
    plan = database.rows(
        "EXPLAIN QUERY PLAN " + "SELECT * FROM picture WHERE owner = 'a' AND created >= 0 AND complete = 1"
    )
    assert "picture_by_owner" in plan[0]["detail"]
    database.close()


def test_what_is_discarded_can_be_brought_back_until_the_trash_is_emptied(tmp_path: Path) -> None:
    gallery, database = open_gallery(tmp_path)
    one, two = gallery.add(new_picture("a")), gallery.add(new_picture("b"))
    shelf = Shelf(gallery, database)
    assert shelf.discard("wang", [one.id]) == 0
    assert shelf.discard("li", [one.id, one.id, "nope"]) == 1
    with pytest.raises(DanqingError, match="no picture"):
        gallery.get(one.id)
    assert [picture.id for picture in gallery.pictures("li", limit=9)] == [two.id]
    assert upkeep.empty_trash(tmp_path, database, 1) == 0
    assert upkeep.rebuild(tmp_path, database, "li") == 0
    assert shelf.restore("wang", [one.id]) == 0
    assert shelf.restore("li", [one.id]) == 1
    assert gallery.get(one.id) == one
    shelf.discard("li", [one.id])
    assert upkeep.empty_trash(tmp_path, database, 1, time.time() + 2 * DAY) == 1
    assert not one.path.exists()
    assert two.path.exists()
    assert shelf.restore("li", [one.id]) == 0
    database.close()


def test_retention_keeps_favourites_and_what_is_young(tmp_path: Path) -> None:
    gallery, database = open_gallery(tmp_path)
    old, liked = gallery.add(new_picture("a")), gallery.add(new_picture("b"))
    shares = Shares(gallery, database)
    shares.like("li", liked.id)
    assert shares.favourites("li") == {liked.id}
    later = time.time() + 10 * DAY
    assert upkeep.retire(tmp_path, database, 0, later) == 0
    assert upkeep.retire(tmp_path, database, 11, later) == 0
    assert upkeep.retire(tmp_path, database, 9, later) == 1
    assert (old.path.exists(), liked.path.exists()) == (False, True)
    shares.like("li", liked.id, liked=False)
    assert upkeep.retire(tmp_path, database, 9, later) == 1
    database.close()


def test_a_link_shows_one_picture_until_it_expires_or_is_taken_back(tmp_path: Path) -> None:
    gallery, database = open_gallery(tmp_path)
    picture = gallery.add(new_picture())
    shares = Shares(gallery, database)
    for act in (lambda: shares.share("wang", picture.id, 9), lambda: shares.like("wang", picture.id)):
        with pytest.raises(DanqingError, match="no picture"):
            act()
    token, other = shares.share("li", picture.id, 60), shares.share("li", picture.id, 60)
    assert token != other
    assert shares.shared(token) == picture
    assert token not in (tmp_path / "danqing.db").read_bytes().decode("latin-1")
    for wrong, now in ((token, time.time() + 61), (token + "x", None), ("", None)):
        with pytest.raises(DanqingError, match="no picture"):
            shares.shared(wrong, now)
    shares.take_back("li", picture.id)
    with pytest.raises(DanqingError, match="no picture"):
        shares.shared(other)
    database.close()


def test_export_holds_every_saved_picture_of_its_owner(tmp_path: Path) -> None:
    gallery, database = open_gallery(tmp_path)
    mine = [gallery.add(new_picture(f"{n}", n)) for n in range(3)]
    gallery.add(new_picture("t", temporary=True))
    gallery.add(new_picture("w", owner="wang"))
    mine.pop().path.unlink()
    content = b"".join(exported(gallery, "li"))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        told = {row["file"]: row for row in json.loads(archive.read("index.json"))}
        assert {archive.read(name) for name in told} == {picture.path.read_bytes() for picture in mine}
        assert len(archive.namelist()) == 3
    assert {row["infotext"] for row in told.values()} == {mine[0].infotext}
    database.close()


def test_the_command_finds_pictures_that_the_index_lacks_and_exports_them(tmp_path: Path) -> None:
    gallery, database = open_gallery(tmp_path)
    gallery.add(new_picture())
    database.close()
    for path in tmp_path.glob("danqing.db*"):
        os.unlink(path)
    run = CliRunner().invoke(app, ["rebuild", "--data", str(tmp_path), "--owner", "li"])
    assert (run.exit_code, run.output) == (0, "1\n")
    run = CliRunner().invoke(app, ["export", str(tmp_path / "all.zip"), "--data", str(tmp_path), "--owner", "li"])
    assert run.exit_code == 0
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert len(archive.namelist()) == 2
    run = CliRunner().invoke(app, ["export", str(tmp_path / "all.zip"), "--data", str(tmp_path)])
    assert run.exit_code == 1
