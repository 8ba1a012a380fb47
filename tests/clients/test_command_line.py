"""`danqing draw`, `danqing batch` and `danqing token` against running servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from PIL import Image

from danqing.client.drawing import draw as drawn
from danqing.client.http import Server as Http
from danqing.errors import DanqingError
from tests.conftest import Server, start_server

SMALL = ("--size", "64x64", "--steps", "2", "--seed", "7")


def danqing(*arguments: str, language: str = "en_US.UTF-8") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": language, "NO_PROXY": "*", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "danqing.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_draw(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    done = danqing("draw", "a red circle", "--url", server.base_url, *SMALL, "-o", str(out), "--set", "cfg_scale=5")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{out}\n"
    with Image.open(out) as picture:
        assert picture.size == (64, 64)
        assert "CFG scale: 5.0, Seed: 7" in picture.info["parameters"]


def test_draw_from_a_picture(server: Server, tmp_path: Path) -> None:
    source, mask = tmp_path / "in.png", tmp_path / "mask.png"
    Image.new("RGB", (64, 64), "navy").save(source)
    Image.new("L", (64, 64), 0).save(mask)
    arguments = ("--image", str(source), "--mask", str(mask), "--set", "inpaint_full_res=false", "-n", "2", "--json")
    done = danqing("draw", "a circle", "--url", server.base_url, *SMALL, *arguments, "-o", str(tmp_path / "b.png"))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["images"] == [str(tmp_path / "b-1.png"), str(tmp_path / "b-2.png")]
    with Image.open(told["images"][1]) as picture:
        assert picture.convert("RGB").getextrema() == ((0, 0), (0, 0), (128, 128))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--steps", "0"), 2, "steps is 0"),
        (("--set", "sd_model_checkpoint"), 2, "NAME=VALUE"),
        (("--size", "large"), 2, "--size"),
        (("--url", "ftp://x"), 2, "--url"),
        (("--token", "two\nlines"), 2, "--token"),
        (("--image", "/nothing/here.png"), 2, "Cannot read"),
        (("-o", "/nothing/here.png"), 2, "Cannot write"),
    ],
    ids=str,
)
def test_bad_input(server: Server, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = danqing("draw", "x", "--url", server.base_url, *arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("body", [b"<html>hi", b"[]", b'{"id": 5}', b"null", b"\xff"])
def test_what_is_no_danqing(body: bytes) -> None:
    """A page of a proxy's, say: said in one line, whatever it answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as stranger:
        threading.Thread(target=stranger.serve_forever, args=(0.02,), daemon=True).start()
        with pytest.raises(DanqingError) as caught:
            drawn(Http(f"http://127.0.0.1:{stranger.server_port}"), {"kind": "txt2img"}, lambda job: None)
        stranger.shutdown()
    assert caught.value.code == "server_failed"


def test_tokens(login_server: Server, tmp_path: Path) -> None:
    data = ("--data", str(login_server.data))
    made = json.loads(danqing("token", "new", "my bot", *data, "--json").stdout)
    assert made["scopes"] == ["draw"]
    draw = ("draw", "x", "--url", login_server.base_url, *SMALL, "-o", str(tmp_path / "a.png"))
    assert danqing(*draw, "--token", made["token"]).returncode == 0
    assert "my bot" in danqing("token", "list", *data).stdout
    assert made["token"] not in danqing("token", "list", *data, "--json").stdout
    assert danqing("token", "revoke", made["id"], *data).returncode == 0
    refused = danqing(*draw, "--token", made["token"], language="zh_CN.UTF-8")
    assert refused.returncode == 2
    assert "此令牌不存在或已被吊销" in refused.stderr
    assert danqing("token", "revoke", made["id"], *data).returncode == 2
    assert danqing("token", "new", "x", "--scope", "everything", *data).returncode == 2


def test_a_password_in_the_address(login_server: Server, tmp_path: Path) -> None:
    url = login_server.base_url.replace("http://", f"http://admin:{login_server.password}@")
    done = danqing("draw", "x", "--url", url, *SMALL, "-o", str(tmp_path / "a.png"))
    assert done.returncode == 0, done.stderr


def rows(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "batch.jsonl").read_text("utf-8").splitlines()]


def test_batch_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    table, out = tmp_path / "table.csv", tmp_path / "out"
    table.write_text('prompt,seed,steps,width,height\n"a red circle, large",1,2,64,64\n12345,2,2,64,64\n', "utf-8")
    run = ("batch", str(table), "--out", str(out), "--url", server.base_url, "--json")
    first = danqing(*run)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout) == {"done": 2, "skipped": 0, "failed": []}
    with Image.open(out / "00003-1.png") as picture:
        assert picture.info["parameters"].startswith("12345\n")
    table.write_text(table.read_text("utf-8") + "a blue square,3,2,64,64\n", "utf-8")
    (out / "00002-1.png").unlink()
    again = json.loads(danqing(*run).stdout)
    assert again == {"done": 2, "skipped": 1, "failed": []}
    assert sorted(path.name for path in out.glob("*.png")) == ["00002-1.png", "00003-1.png", "00004-1.png"]
    assert len(rows(out)) == 4


def test_batch_of_lines_tells_of_rows_that_fail(server: Server, tmp_path: Path) -> None:
    table, out = tmp_path / "table.jsonl", tmp_path / "out"
    Image.new("RGB", (64, 64), "navy").save(tmp_path / "in.png")
    fields = [{"prompt": "x", "image": "in.png"}, {"prompt": "y", "steps": 0}, {"prompt": "z", "n_iter": 2}]
    table.write_text("\n".join(json.dumps(row) for row in fields), "utf-8")
    size = ("--set", "width=64", "--set", "height=64", "--set", "steps=2", "--set", "seed=1")
    done = danqing("batch", str(table), "--out", str(out), "--url", server.base_url, *size)
    assert done.returncode == 1
    assert f"{table}:2: " in done.stderr
    assert "steps is 0" in done.stderr
    assert sorted(path.name for path in out.glob("*.png")) == ["00001-1.png", "00003-1.png", "00003-2.png"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [("a.csv", "prompt\nx,y\n", "line 2"), ("a.jsonl", "{}\n[1]\n", "line 2"), ("a.jsonl", '{"prompt"', "line 1")],
)
def test_tables_that_are_none(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    done = danqing("batch", str(tmp_path / name), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert words in done.stderr


def test_batch_outlives_a_server_that_goes_away(tmp_path: Path) -> None:
    engine = {
        "DANQING_ENGINE_COMMAND": f"{sys.executable} {Path(__file__).parents[1] / 'jobs' / 'fake_engine.py'} --step 0.02"
    }
    running = start_server(tmp_path / "data", environment=engine)
    table, out = tmp_path / "table.txt", tmp_path / "out"
    table.write_text("\n".join(f"picture {number}" for number in range(12)), "utf-8")
    size = ("--set", "width=64", "--set", "height=64", "--set", "steps=10")
    command = [sys.executable, "-m", "danqing.cli", "batch", str(table), "--out", str(out), "--url", running.base_url]
    try:
        process = subprocess.Popen([*command, *size, "--parallel", "2"], env={**os.environ, "NO_PROXY": "*"})
        while not (out / "batch.jsonl").is_file():
            assert process.poll() is None
        running.kill()
        running = start_server(tmp_path / "data", environment=engine, port=running.port)
        assert process.wait(100) == 0
        assert len(list(out.glob("*.png"))) == len(rows(out)) == 12
    finally:
        running.stop()
