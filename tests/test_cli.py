"""The command line: one sentence in the reader's language, exit codes, no tracebacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from danqing.library.index import MINI
from tests.conftest import give_model

TEXT = "a cat\nSteps: 20, Sampler: Euler, CFG scale: 7.0, Seed: 5, Size: 64x96"


def danqing(*arguments: str | bytes, language: str = "en_US.UTF-8", **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "danqing.cli", *arguments]
    environment = {**os.environ, "LC_ALL": language, "PYTHONIOENCODING": "utf-8", **more}
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=environment, timeout=240)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "data"
    folder.mkdir()
    give_model(folder)
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    chunk = PngImagePlugin.PngInfo()
    chunk.add_text("parameters", TEXT)
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path, pnginfo=chunk)
    return path


def test_generate(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    arguments = ("--seed", "5", "--steps", "3", "--size", "64x72", "--sampler", "Euler a", "--data", str(data))
    done = danqing("generate", "a red circle", *arguments, "--negative", "blue", "-o", str(out))
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(out) as image:
        assert image.size == (64, 72)
        text = image.info["parameters"]
    assert text.startswith("a red circle\nNegative prompt: blue\nSteps: 3, Sampler: Euler a, ")
    told = danqing("info", str(out))
    assert told.stdout == text + "\n"


@pytest.mark.skipif(not MINI.is_file(), reason="the miniature model is not there yet")
def test_the_size_is_the_models_own(tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    done = danqing("generate", "一个红色的圆", "--steps", "1", "--data", str(tmp_path), "-o", str(out))
    assert done.returncode == 0, done.stderr
    with Image.open(out) as image:
        assert image.size == (128, 128)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "0x64"], "width is 0"),
        (["--size", "64x-8"], "height is -8"),
        (["--size", "1000000x64"], "4096"),
        (["--size", "big"], "--size"),
        (["--size", "9999999999x1"], "--size"),
        (["--steps", "0"], "steps is 0"),
        (["--steps", "1000000000"], "steps is 1000000000"),
        (["--cfg", "nan"], "cfg_scale must be a finite number"),
        (["--cfg", "inf"], "cfg_scale must be a finite number"),
        (["--cfg", "1e9"], "cfg_scale is"),
        (["--cfg=-1e9"], "cfg_scale is"),
        (["--seed", str(10**30)], "seed is"),
        (["--sampler", "no such sampler"], "no such sampler"),
        (["--scheduler", "no such schedule"], "no such schedule"),
        (["--model", "no such model"], "no such model"),
        (["--negative", "x" * 100_000], "negative_prompt has 100000 characters"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_input(data: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    out = tmp_path / "out.png"
    done = danqing("generate", "x", *arguments, "--data", str(data), "-o", str(out))
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not out.exists()


def test_broken_characters(data: Path, tmp_path: Path) -> None:
    done = danqing("generate", b"a \xff\xfe b", "--data", str(data), "-o", str(tmp_path / "out.png"))
    assert done.returncode == 2
    assert "prompt holds broken characters" in done.stderr


@pytest.mark.parametrize(
    ("language", "words"),
    [("zh_CN.UTF-8", "steps 为 0"), ("zh_TW", "steps 为 0"), ("en_GB.UTF-8", "steps is 0"), ("C", "steps is 0")],
)
def test_language(data: Path, tmp_path: Path, language: str, words: str) -> None:
    arguments = ("--steps", "0", "--data", str(data), "-o", str(tmp_path / "out.png"))
    assert words in danqing("generate", "x", *arguments, language=language).stderr


def test_an_output_that_cannot_be_written(data: Path, tmp_path: Path) -> None:
    done = danqing("generate", "x", "--data", str(data), "-o", str(tmp_path / "no" / "such" / "out.png"))
    assert done.returncode == 2
    assert "Cannot write" in done.stderr


def test_info(picture: Path) -> None:
    assert danqing("info", str(picture)).stdout == TEXT + "\n"
    told = json.loads(danqing("info", str(picture), "--json").stdout)
    assert told["info"] == TEXT
    assert told["parameters"]["Seed"] == "5"
    assert told["items"] == {}


def test_info_of_another_programs_picture(tmp_path: Path) -> None:
    path = tmp_path / "comfy.png"
    chunk = PngImagePlugin.PngInfo()
    chunk.add_text("workflow", '{"nodes": []}')
    Image.new("RGB", (8, 8)).save(path, pnginfo=chunk)
    told = danqing("info", str(path))
    assert (told.returncode, "made with ComfyUI" in told.stdout) == (0, True)


def test_info_of_what_holds_none(tmp_path: Path) -> None:
    plain = tmp_path / "plain.png"
    Image.new("RGB", (8, 8)).save(plain)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    for path, words in (
        (plain, "holds no infotext"),
        (broken, "cannot be read"),
        (tmp_path / "none.png", "Cannot read"),
        (tmp_path, "Cannot read"),
        (Path("/dev/zero"), "Cannot read"),
    ):
        done = danqing("info", str(path))
        assert done.returncode == 2
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_help_and_version() -> None:
    assert {"serve", "generate", "info"} <= set(danqing("--help").stdout.split())
    assert danqing("--version").stdout.strip().count(".") == 2
    assert danqing("generate").returncode == 2
