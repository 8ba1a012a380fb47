"""The gallery on a real database and a real folder."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from danqing.errors import DanqingError
from danqing.gallery import files, png, upkeep

from .support import new_picture, open_gallery


def test_add_get_and_list(tmp_path: Path) -> None:
    gallery, database = open_gallery(tmp_path)
    first = gallery.add(new_picture("a"))
    second = gallery.add(new_picture("b", owner="wang"))
    assert gallery.get(first.id) == first
    assert gallery.pictures(None, limit=10) == [second, first]
    assert gallery.pictures("li", limit=10) == [first]
    assert gallery.pictures(None, limit=10, before=second.created) == [first]
    assert gallery.of_job("b") == [second]
    assert re.fullmatch(r"outputs/txt2img-images/\d{4}-\d\d-\d\d/00000-42\.png", str(first.path.relative_to(tmp_path)))
    assert second.path.name == "00001-42.png"
    with Image.open(first.path) as image:
        assert (image.size, image.mode, image.text["parameters"]) == ((16, 16), "RGB", first.infotext)
        assert image.tobytes() == new_picture().pixels
    database.close()


def test_names_of_pictures_that_left_the_disk_are_not_used_again(tmp_path: Path) -> None:
    gallery, database = open_gallery(tmp_path)
    first = gallery.add(new_picture("a"))
    first.path.unlink()
    database.close()
    gallery, database = open_gallery(tmp_path)
    second = gallery.add(new_picture("b"))
    assert second.path.name == "00001-42.png"
    assert second.path.exists()
    database.close()


def test_the_same_picture_twice_is_the_same_bytes(tmp_path: Path) -> None:
    gallery, database = open_gallery(tmp_path)
    one, two = gallery.add(new_picture("a")), gallery.add(new_picture("b", owner="wang"))
    assert one.path.read_bytes() == two.path.read_bytes()
    database.close()


def test_a_redrawn_picture_is_kept_once(tmp_path: Path) -> None:
    gallery, database = open_gallery(tmp_path)
    first = gallery.add(new_picture())
    assert gallery.add(new_picture()) == first
    assert len(list(tmp_path.rglob("*.png"))) == 1
    database.close()


def test_pictures_added_at_once_get_names_of_their_own(tmp_path: Path) -> None:
    gallery, database = open_gallery(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        pictures = list(pool.map(lambda n: gallery.add(new_picture("j", n, side=64)), range(24)))
    numbers = sorted(int(picture.path.name.split("-")[0]) for picture in pictures)
    assert numbers == list(range(24))
    database.close()


def test_two_programs_in_one_folder(tmp_path: Path) -> None:
    """Another program writes numbered files of the same seed at the same time: nobody's file is replaced."""
    gallery, database = open_gallery(tmp_path)
    folder = gallery.add(new_picture("first")).path.parent
    taken, over = [], threading.Event()

    def other() -> None:
        while not over.is_set():
            path = folder / f"{files.next_number(folder):05d}-42.png"
            try:
                with path.open("xb") as file:
                    file.write(b"other")
                taken.append(path)
            except FileExistsError:
                continue

    thread = threading.Thread(target=other)
    thread.start()
    pictures = [gallery.add(new_picture(f"job {n}")) for n in range(10)]
    over.set()
    thread.join()
    assert len({picture.path for picture in pictures}) == 10
    assert all(path.read_bytes() == b"other" for path in taken)
    assert all(picture.path.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    database.close()


def test_what_is_not_there_is_unknown(tmp_path: Path) -> None:
    gallery, database = open_gallery(tmp_path)
    picture = gallery.add(new_picture())
    picture.path.unlink()
    for name in (picture.id, "nope"):
        with pytest.raises(DanqingError) as caught:
            gallery.get(name)
        assert caught.value.code == "unknown_picture"
    database.close()


def test_recovery_keeps_what_is_whole_and_forgets_the_rest(tmp_path: Path) -> None:
    gallery, database = open_gallery(tmp_path)
    whole, torn, absent = (gallery.add(new_picture("j", n)) for n in range(3))
    torn.path.rename(files.part_of(torn.path))
    absent.path.unlink()
    database.write(lambda connection: connection.execute("UPDATE picture SET complete = 0"))
    assert gallery.of_job("j") == []
    assert upkeep.recover(tmp_path, database) == 3
    assert gallery.of_job("j") == [whole]
    assert [path.name for path in whole.path.parent.iterdir()] == [whole.path.name]
    again = gallery.add(new_picture("j", 1))
    assert [picture.index for picture in gallery.of_job("j")] == [0, 1]
    assert again.path.exists()
    assert upkeep.recover(tmp_path, database) == 0
    database.close()


def test_recovery_does_not_take_another_file_for_ours(tmp_path: Path) -> None:
    gallery, database = open_gallery(tmp_path)
    picture = gallery.add(new_picture())
    picture.path.write_bytes(b"another program's")
    database.write(lambda connection: connection.execute("UPDATE picture SET complete = 0"))
    upkeep.recover(tmp_path, database)
    assert gallery.of_job("j") == []
    assert picture.path.read_bytes() == b"another program's"
    database.close()


def test_temporary_pictures_go_after_their_time(tmp_path: Path) -> None:
    gallery, database = open_gallery(tmp_path)
    kept = gallery.add(new_picture("a"))
    temporary = gallery.add(new_picture("b", temporary=True))
    assert temporary.path.is_relative_to(tmp_path / "outputs" / "api-temp")
    assert upkeep.sweep(tmp_path, database, hours=1) == 0
    assert temporary.path.exists()
    assert upkeep.sweep(tmp_path, database, hours=0.5, now=temporary.created + 1801) == 1
    assert gallery.pictures(None, limit=9) == [kept]
    assert kept.path.exists()
    assert temporary.path.parent.exists(), "a picture may just be on its way into it"
    assert upkeep.sweep(tmp_path, database, hours=1, now=temporary.created + 9000) == 0
    assert not temporary.path.parent.exists()
    database.close()


def test_the_index_is_rebuilt_from_files(tmp_path: Path) -> None:
    gallery, database = open_gallery(tmp_path)
    old = [gallery.add(new_picture("a", n)) for n in range(2)]
    gallery.add(new_picture("b", temporary=True))
    (old[0].path.parent / "broken.png").write_bytes(b"not a picture")
    database.close()
    for path in tmp_path.glob("danqing.db*"):
        path.unlink()
    gallery, database = open_gallery(tmp_path)
    assert upkeep.rebuild(tmp_path, database, "li") == 2
    assert upkeep.rebuild(tmp_path, database, "li") == 0
    found = sorted(gallery.pictures("li", limit=9), key=lambda picture: picture.path)
    assert [(p.path, p.infotext, p.width, p.seed, p.job) for p in found] == [
        (p.path, p.infotext, p.width, 42, "") for p in old
    ]
    database.close()


def test_pixels_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="not enough"):
        png.encode(b"123", 16, 16, {})
