"""A training's data: what a folder or a zip may hold, what is told of it, and that originals stay as they are."""

from __future__ import annotations

import io
import os
import random
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danqing.errors import KINDS, DanqingError
from danqing.train import captions
from danqing.train.data import report
from danqing.train.folder import Training, create
from danqing.train.prepare import bucket_of, buckets, fitted, prepare, prepared
from danqing.train.recipe import TrainRequest, parsed
from danqing.train.settings import Limits


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (96, 96), mode: str = "RGB") -> Path:
    """Noise in broad blocks, of its own for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    Image.fromarray(blocks).resize(size).convert(mode).save(path)
    return path


def png(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def recipe(data: Path, **fields: object) -> TrainRequest:
    base = {"method": "lora", "name": "zqx", "data": str(data), "resolution": 64, "caption_source": "sidecar"}
    return parsed(base | fields)


def test_a_report_tells_of_everything(tmp_path: Path) -> None:
    data = tmp_path / "data"
    picture(data / "a.png", 1, (300, 300))
    data.joinpath("a.txt").write_text("  a red\n thing ", "utf-8")
    picture(data / "b.jpg", 2, (300, 200))
    picture(data / "sub" / "010_small_one.png", 3, (40, 40))
    data.joinpath("copy.png").write_bytes((data / "a.png").read_bytes())
    Image.open(data / "b.jpg").save(data / "again.webp", quality=90)
    data.joinpath("broken.png").write_bytes((data / "a.png").read_bytes()[:200])
    data.joinpath("text.jpg").write_text("no picture")
    picture(data / "huge.png", 4, (700, 700))
    picture(data / "a-mask.png", 5, (300, 300), "L")
    data.joinpath("link.png").symlink_to("/etc/hostname")
    found = report(data, 128, Limits(pixels=600 * 600))
    assert {p.name for p in found.pictures} == {"a.png", "again.webp", "b.jpg", "sub/010_small_one.png"}
    assert found.captions == 1
    assert found.masks == 1
    assert {issue.file for issue in found.broken} == {"broken.png", "text.jpg", "link.png"}
    assert [issue.file for issue in found.too_large] == ["huge.png"]
    assert [issue.file for issue in found.too_small] == ["sub/010_small_one.png"]
    assert {(i.file, str(i.error.params["other"])) for i in found.duplicates} == {
        ("copy.png", "a.png"),
        ("b.jpg", "again.webp"),
    }
    assert next(p for p in found.pictures if p.name == "a.png").words == "a red thing"
    assert next(p for p in found.pictures if p.name.startswith("sub")).words == "small one"
    assert found.fatal is None
    assert "broken.png" in found.as_dict("zh")["issues"][0]["text"]


def test_the_digest_is_of_pictures_masks_and_captions(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    first = report(tmp_path).sha256
    assert report(tmp_path).sha256 == first
    tmp_path.joinpath("a.txt").write_text("other words")
    second = report(tmp_path).sha256
    assert second != first
    picture(tmp_path / "a-mask.png", 2, mode="L")
    assert report(tmp_path).sha256 not in (first, second)


def test_a_picture_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda *args, **more: opened.append(1) or real(*args, **more))
    picture(tmp_path / "once.png", 4711, (90, 70))
    first = report(tmp_path, 64)
    assert report(tmp_path, 64) == first
    assert len(opened) == 1
    assert [issue.code for issue in report(tmp_path, 64, Limits(pixels=4096)).issues] == ["train_picture_huge"]
    picture(tmp_path / "once.png", 4712, (80, 70))
    assert report(tmp_path, 64).pictures[0].width == 80


def test_endings_may_be_in_capitals(tmp_path: Path) -> None:
    picture(tmp_path / "IMG_1.JPG", 1)
    picture(tmp_path / "IMG_1-mask.PNG", 2, mode="L")
    tmp_path.joinpath("IMG_1.TXT").write_text("a red thing")
    (only,) = report(tmp_path, 64).pictures
    assert (only.name, only.mask, only.caption) == ("IMG_1.JPG", "IMG_1-mask.PNG", "a red thing")


def test_a_broken_mask_is_reported_and_not_used(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    tmp_path.joinpath("a-mask.png").write_text("no picture")
    found = report(tmp_path, 64)
    assert [(p.name, p.mask) for p in found.pictures] == [("a.png", "")]
    assert [issue.file for issue in found.broken] == ["a-mask.png"]


def test_sixteen_bits_of_grey_keep_their_shades(tmp_path: Path) -> None:
    shades = np.linspace(0, 65535, 64, dtype=np.uint16).repeat(64).reshape(64, 64)
    Image.fromarray(shades).save(tmp_path / "deep.png")
    training = create(tmp_path, recipe(tmp_path / "deep.zip"))
    with zipfile.ZipFile(tmp_path / "deep.zip", "w") as file:
        file.write(tmp_path / "deep.png", "deep.png")
    prepare(training, tmp_path)
    grey = np.asarray(Image.open(training.pictures / "00001.png"))[:, 0, 0].astype(int)
    assert grey[0] < 10
    assert abs(grey[32] - 130) < 10
    assert grey[-1] > 245


def test_bad_captions_stop_a_training(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    tmp_path.joinpath("a.txt").write_text("x" * 10_000)
    found = report(tmp_path).fatal
    assert found is not None
    assert (found.code, found.params["length"], found.params["maximum"]) == ("train_caption_long", 10_000, 2000)
    tmp_path.joinpath("a.txt").write_bytes(b"\xff\xfe\xff")
    found = report(tmp_path).fatal
    assert found is not None
    assert found.code == "train_caption_broken"


def test_data_that_has_gone_meanwhile_is_said_to_have(tmp_path: Path) -> None:
    for name, zh in (("gone", "已不存在"), ("gone.zip", "已不存在"), ("pipe", "既不是文件夹")):
        if name == "pipe":
            os.mkfifo(tmp_path / name)
        with pytest.raises(DanqingError) as caught:
            report(tmp_path / name)
        assert caught.value.code == "train_no_pictures"
        assert zh in caught.value.text("zh")


@pytest.mark.parametrize("content", ["nothing", "a text", "one broken picture"])
def test_data_without_pictures_has_a_name(tmp_path: Path, content: str) -> None:
    if content != "nothing":
        tmp_path.joinpath("a.png" if "picture" in content else "a.txt").write_text(content)
    found = report(tmp_path).fatal
    assert found is not None
    assert found.code == "train_no_pictures"


def test_too_many_pictures(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / f"{number}.png", number)
    assert len(report(tmp_path, limits=Limits(pictures=3)).pictures) == 3
    with pytest.raises(DanqingError, match="more than 2 pictures"):
        report(tmp_path, limits=Limits(pictures=2))


def test_a_zip_reads_like_a_folder(tmp_path: Path) -> None:
    path = zipped(
        tmp_path / "d.zip", **{"in/a.png": png(1), "in/a.txt": b"\xef\xbb\xbfwords", "__MACOSX/in/._a.png": b"x"}
    )
    found = report(path)
    assert [(p.name, p.caption) for p in found.pictures] == [("in/a.png", "words")]
    assert not found.broken


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "C:\\a.png", "in/../../a.png"])
def test_names_that_lead_out_of_a_zip_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DanqingError, match="leads out of it"):
        report(zipped(tmp_path / "d.zip", **{name: png()}))


def test_zip_tricks_are_refused(tmp_path: Path) -> None:
    bomb = zipped(tmp_path / "bomb.zip", **{"a.png": b"\0" * (8 * 2**20)})
    with pytest.raises(DanqingError, match="grows more than"):
        report(bomb)
    with pytest.raises(DanqingError, match="are the limit"):
        report(bomb, limits=Limits(file=2**20))
    with pytest.raises(DanqingError, match="unpacked it has more than"):
        report(zipped(tmp_path / "many.zip", **{"a.png": png(1), "b.png": png(2)}), limits=Limits(archive=9000))
    link = tmp_path / "link.zip"
    with zipfile.ZipFile(link, "w") as file:
        info = zipfile.ZipInfo("a.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    with pytest.raises(DanqingError, match="a link or a device"):
        report(link)
    tmp_path.joinpath("no.zip").write_bytes(b"PK\3\4 nothing")
    with pytest.raises(DanqingError) as caught:
        report(tmp_path / "no.zip")
    assert caught.value.code == "train_archive"


def test_a_member_that_lies_about_its_length(tmp_path: Path) -> None:
    path = zipped(tmp_path / "d.zip", **{"a.png": png()})
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\1\2") + 24
    content[at : at + 4] = (100).to_bytes(4, "little")
    path.write_bytes(content)
    found = report(path)
    assert not found.pictures
    assert found.issues


def test_buckets_keep_to_the_area_and_the_ratio() -> None:
    found = buckets(512)
    assert (512, 512) in found
    assert (448, 576) in found
    assert all(w * h <= 512 * 512 and w % 64 == 0 and h % 64 == 0 and max(w, h) <= 1024 for w, h in found)
    assert bucket_of((1000, 1000), 512) == (512, 512)
    assert bucket_of((1600, 900), 512) == (640, 384)
    assert bucket_of((900, 1600), 512) == (384, 640)
    assert bucket_of((1600, 900), 512, several=False) == (512, 512)
    assert all(w % 8 == 0 and h % 8 == 0 for w, h in buckets(128))


def test_fitting_crops_the_middle() -> None:
    image = Image.new("RGB", (300, 100), "red")
    image.paste("blue", (90, 0, 210, 100))
    assert fitted(image, (64, 64)).getcolors() == [(64 * 64, (0, 0, 255))]


def test_prepared_copies_and_edited_captions(tmp_path: Path) -> None:
    data = tmp_path / "data"
    source = picture(data / "a.png", 1, (200, 100), "RGBA")
    data.joinpath("a.txt").write_text("first words", "utf-8")
    picture(data / "a-mask.png", 2, (200, 100), "L")
    picture(data / "b.png", 3, (100, 100))
    before = {path: path.read_bytes() for path in data.iterdir()}
    training = create(tmp_path, recipe(data, masks=True))
    index = prepare(training, tmp_path)
    assert [(p.source, p.width, p.height, bool(p.mask)) for p in index.pictures] == [
        ("a.png", 80, 48, True),
        ("b.png", 64, 64, False),
    ]
    assert Image.open(training.pictures / index.pictures[0].file).size == (80, 48)
    assert captions.read(training) == {"00001.png": "first words", "00002.png": "b"}
    captions.write(training, "00001.png", "second\nwords")
    assert prepare(training, tmp_path) == index == prepared(training)
    assert captions.read(training)["00001.png"] == "second words"
    assert {path: path.read_bytes() for path in data.iterdir()} == before
    assert source.exists()
    for wrong in ("../x.png", "00009.png"):
        with pytest.raises(DanqingError, match="no prepared picture"):
            captions.write(training, wrong, "x")
    with pytest.raises(DanqingError, match="the limit is 2000"):
        captions.write(training, "00001.png", "x" * 2001)


def test_captions_follow_the_recipe(tmp_path: Path) -> None:
    rng = random.Random(0)
    template = recipe(
        tmp_path, caption_source="template", template="a photo of [name], [filewords]\n\n", trigger="sks dog"
    )
    assert captions.caption_of(template, "on grass", rng) == "a photo of sks dog, on grass"
    assert captions.caption_of(template, "", rng) == "a photo of sks dog"
    beside = recipe(tmp_path, method="textual_inversion", template="")
    assert captions.caption_of(beside, "a thing", rng) == "zqx, a thing"
    assert captions.caption_of(beside, "a ZQX", rng) == "a ZQX"
    # Within another word it is not said, nor by a template that leaves it out: nothing would be learned.
    assert captions.caption_of(beside, "many zqxes", rng) == "zqx, many zqxes"
    silent = recipe(tmp_path, method="textual_inversion", caption_source="template", template="a photo")
    assert captions.caption_of(silent, "", rng) == "zqx, a photo"
    dropped = recipe(tmp_path, caption_dropout=0.5)
    found = [captions.caption_of(dropped, "words", rng) for _ in range(200)]
    assert 60 < found.count("") < 140
    shuffled = {captions.caption_of(recipe(tmp_path, shuffle_tags=True), "a,b,c", rng) for _ in range(50)}
    assert shuffled == {"a,b,c", "a,c,b"}
    prior = recipe(tmp_path, class_prompt="a dog\na cat", class_pictures=3)
    assert captions.class_prompts(prior) == ["a dog", "a cat", "a dog"]


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "x.", " x", "a\\b", "", "x\n", "画" * 67])
def test_names_that_are_paths_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DanqingError, match="name"):
        recipe(tmp_path, name=name)


@pytest.mark.parametrize(
    "fields",
    [
        {"schedule": "piecewise_constant"},
        {"schedule": "piecewise_constant", "rate_rules": "1:-5,0.1"},
        {"hypernetwork_activation": "sine"},
    ],
)
def test_what_could_not_be_trained_is_no_recipe(tmp_path: Path, fields: dict[str, object]) -> None:
    with pytest.raises(DanqingError) as caught:
        recipe(tmp_path, **fields)
    assert (caught.value.code, caught.value.params["field"]) == (
        "invalid_field",
        list(fields)[-1].replace("schedule", "rate_rules"),
    )
    assert (
        recipe(tmp_path, schedule="piecewise_constant", rate_rules="1:4, 1e-05:8, 0.05").rate_rules
        == "1:4,1e-05:8,0.05"
    )


def test_a_result_is_never_overwritten(tmp_path: Path) -> None:
    for method, taken in (
        ("lora", "models/Lora/zqx.safetensors"),
        ("textual_inversion", "embeddings/zqx.safetensors"),
        ("hypernetwork", "models/hypernetworks/zqx.pt"),
        ("dreambooth", "models/Stable-diffusion/zqx.ckpt"),
    ):
        path = tmp_path / taken
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        with pytest.raises(DanqingError) as caught:
            create(tmp_path, recipe(tmp_path, method=method))
        assert (caught.value.code, caught.value.params["path"]) == ("train_name_taken", taken)
    assert not tmp_path.joinpath("training").exists()


def test_a_folder_tells_its_state(tmp_path: Path) -> None:
    training = create(tmp_path, recipe(tmp_path))
    assert training.state() == "queued"
    with training.held():
        assert Training(training.path).state() == "running"
        with pytest.raises(DanqingError, match="running already"), Training(training.path).held():
            pass
    training.progress.write_text(
        '{"step":1,"steps":2,"loss":0.5}\n{"step":1,"steps":2,"event":"paused"}\n{"step":2,"st'
    )
    assert training.state() == "paused"
    assert [row["step"] for row in training.rows()] == [1, 1]
    assert [row.get("event") for row in training.rows(1)] == ["paused"]
    training.write_failure(DanqingError("train_diverged", step=2))
    failure = training.failure()
    assert training.state() == "failed"
    assert failure is not None
    assert failure.params == {"step": 2}
    training.write_result({"files": []})
    assert training.state() == "done"
    assert training.recipe() == recipe(tmp_path)


def test_every_error_of_training_has_both_languages() -> None:
    rows = [kind for code, kind in KINDS.items() if code.startswith("train_")]
    assert len(rows) > 10
    assert all(row.en.isascii() or "“" in row.en for row in rows)
    assert all(any("\u4e00" <= letter <= "\u9fff" for letter in row.zh) for row in rows)
