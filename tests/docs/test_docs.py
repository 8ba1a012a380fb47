"""The documents tell the truth: what they name exists, what exists is named, and their commands run.

Shell blocks are run as they stand, against a real server where they speak of one, with `danqing` on the path.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
import typer.main

from danqing import app, cli, errors, plugins
from danqing.engine.build import Workshop
from danqing.engine.protocol import Message
from danqing.engine.settings import ROWS as ENGINE_ROWS
from danqing.plugins import Reader, loading
from danqing.request import LIMITS, GenerateRequest
from danqing.settings import Settings
from tests.conftest import give_model

if TYPE_CHECKING:
    from tests.conftest import Server

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path for path in [*ROOT.glob("*.md"), *DOCS.glob("*.md")] if not path.name.startswith("CLAUDE"))
BILINGUAL = sorted(path for path in PAGES if path.parent == DOCS or path.name.startswith("README"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
HERE = "http://127.0.0.1:7860"


def page(name: str, chinese: bool) -> str:
    return (DOCS / f"{name}{'.zh-CN' if chinese else ''}.md").read_text("utf-8")


def blocks(path: Path, *languages: str) -> list[str]:
    return [code for language, code in FENCE.findall(path.read_text("utf-8")) if language in languages]


def commands(code: str) -> Iterator[list[str]]:
    """The words of every command in a shell block, comments and continued lines minded."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words:
            yield words


def tables() -> Any:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "tools" / "tables.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


both = pytest.mark.parametrize("chinese", [False, True], ids=["en", "zh"])


# -- both languages say the same --


def test_every_page_is_there_in_both_languages() -> None:
    english = {path.name.removesuffix(".md") for path in BILINGUAL if not path.name.endswith(".zh-CN.md")}
    chinese = {path.name.removesuffix(".zh-CN.md") for path in BILINGUAL if path.name.endswith(".zh-CN.md")}
    assert english == chinese
    assert len(english) >= 8


@pytest.mark.parametrize("path", [p for p in BILINGUAL if not p.name.endswith(".zh-CN.md")], ids=lambda p: p.name)
def test_both_languages_have_the_same_sections_and_commands(path: Path) -> None:
    other = path.with_name(path.name.removesuffix(".md") + ".zh-CN.md")
    texts = [FENCE.sub("", file.read_text("utf-8")) for file in (path, other)]
    levels = [re.findall(r"^(#+) ", text, re.MULTILINE) for text in texts]
    assert levels[0] == levels[1]
    assert blocks(path, "sh", "python", "toml") == blocks(other, "sh", "python", "toml")
    assert re.search(r"[\u4e00-\u9fff]{4}", texts[1])


# -- links and pictures --


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", path.read_text("utf-8"))):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), target
        assert file.is_relative_to(ROOT)
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, target


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_no_page_has_a_gap_left_to_fill(path: Path) -> None:
    written = tables().BLOCK.sub("", path.read_text("utf-8"))
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", written))
    assert not re.search(r"\{\w+\}|TODO|FIXME|XXX", text)
    assert not re.search(r"<!-- bench: \w+ -->\s*<!-- end of bench -->", text)


# -- what there is, is documented --


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda p: p.name)
def test_generated_tables_are_up_to_date(path: Path) -> None:
    """Settings and errors; `.venv/bin/python tools/tables.py` writes them anew."""
    assert tables().filled(path) == path.read_text("utf-8")


@both
def test_every_setting_and_error_is_documented(chinese: bool) -> None:
    operations, api = page("operations", chinese), page("api", chinese)
    assert [row.name for row in app.ROWS if f"| `{row.name}` |" not in operations] == []
    assert [code for code in errors.KINDS if f"| `{code}` |" not in api] == []


@both
def test_every_hook_is_documented(chinese: bool) -> None:
    hooks = [name for name in vars(plugins.Hooks) if name.startswith("danqing_")]
    assert len(hooks) >= 14
    assert [name for name in hooks if f"`{name}(" not in page("plugins", chinese)] == []


@both
def test_the_plugin_of_the_documents_works(chinese: bool, tmp_path: Path) -> None:
    """The worked example, installed as a folder, draws its grain in a real engine."""
    text = page("plugins", chinese)
    folder = tmp_path / "plugins" / "film_grain"
    folder.mkdir(parents=True)
    for name, code in re.findall(
        r"^`(plugin\.toml|plugin\.py|engine\.py)`\n\n```\w+\n(.*?)^```", text, re.DOTALL | re.MULTILINE
    ):
        (folder / name).write_text(code, "utf-8")
    before = loading.active()
    give_model(tmp_path)
    heard: list[Message] = []
    workshop = Workshop(tmp_path, Settings((*LIMITS, *ENGINE_ROWS), {"engine_threads": 1}), heard.append)
    try:
        assert {one.name: one.error for one in loading.active().all() if one.name == "film_grain"} == {"film_grain": ""}
        base = GenerateRequest(prompt="a red star", steps=2, width=64, height=64, seed=3)
        workshop.engine.submit("plain", base)
        grain = base.model_copy(update={"plugins": {"film grain": {"on": True, "amount": 0.5}}})
        workshop.engine.submit("grain", grain)
        workshop.engine.finish()
        images = {one.body["job"]: one for one in heard if one.body["event"] == "image"}
        assert images["grain"].body["facts"]["extra"]["Film grain"] == 0.5
        pixels = [np.frombuffer(images[job].blobs[0], np.uint8).astype(int) for job in ("plain", "grain")]
        assert 5 < np.abs(pixels[0] - pixels[1]).mean() < 40
        (tab,) = [tab for tab in loading.active().tabs() if tab.name == "Film grain"]
        for _ in loading.active().calls("danqing_after_picture", {"path": "x.png", "infotext": "Film grain: 0.5"}):
            pass
        assert tab.render(Reader("zh", "ann", tmp_path)) == "<p>带颗粒的图片：1</p>"
    finally:
        loading.activate(before)


PASSED_ON = {
    "box": "danqing.box.cli",
    "cloud": "danqing.cloud.cli",
    "gallery": "danqing.jobs.gallery_cli",
    "library": "danqing.library.cli",
    "token": "danqing.client.tokens",
    "user": "danqing.client.users",
}
"""Commands that hand the rest of the line over to a group of their own, and where that is."""


def named(module: str, name: str) -> Any:
    """The command of that name in a group of its own."""
    group: Any = typer.main.get_command(importlib.import_module(module).app)
    return group.commands[name]


def options_of(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


@both
def test_every_command_and_option_is_documented(chinese: bool) -> None:
    guide = page("guide", chinese)
    group: Any = typer.main.get_command(cli.app)
    for name, command in group.commands.items():
        assert f"danqing {name}" in guide
        found = {option for option in options_of(command) if option.startswith("-")}
        assert [option for option in found if not re.search(rf"(?<![\w-]){option}(?![\w-])", guide)] == [], name


@both
def test_every_make_target_that_people_use_is_documented(chinese: bool) -> None:
    text = page("guide", chinese) + (ROOT / "CONTRIBUTING.md").read_text("utf-8") + page("benchmarks", chinese)
    for target in ("run", "setup", "test", "lint", "bench"):
        assert f"make {target}" in text


@both
def test_every_route_is_documented(chinese: bool, server: Server) -> None:
    """The routes of the API's own description; those of the page's inner workings are Gradio's."""
    text = page("api", chinese) + page("operations", chinese) + page("metrics", chinese)
    with server.client() as client:
        paths: dict[str, dict[str, Any]] = client.get("/openapi.json").json()["paths"]
    ours = [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods if "gradio" not in path]
    assert len(ours) >= 8
    assert [route for route in ours if f"`{route}`" not in text] == []


@both
def test_every_documented_route_answers(chinese: bool, server: Server) -> None:
    """A route that is named but not there would be a plain 404, or a 405 of another method's."""
    found = set(re.findall(r"`(GET|POST) (/[^`\s?]*)", page("api", chinese)))
    assert len(found) >= 8
    # The queue is resumed after it was paused and drained: other tests draw with this server.
    routes = sorted(found, key=lambda route: (route[1] == "/v1/queue/resume", route))
    with server.client() as client:
        for method, path in routes:
            if path in ("/logout", "/sdapi/v1/txt2img"):
                continue
            answer = client.request(method, path, json={} if method == "POST" else None)
            assert answer.status_code != 405, path
            assert answer.status_code != 404 or answer.json().get("detail") != "Not Found", path


@both
def test_every_metric_is_documented(chinese: bool, server: Server) -> None:
    text = page("metrics", chinese)
    with server.client() as client:
        client.get("/sdapi/v1/samplers")
        shown = set(re.findall(r"^# TYPE (\w+) ", client.get("/metrics").text, re.MULTILINE))
    assert len(shown) >= 5
    names = {re.sub(r"_(total|created)$", "", name) for name in shown}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


# -- what is documented, is there --


def test_commands_in_the_documents_exist() -> None:
    targets = set(re.findall(r"^(\w+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    group: Any = typer.main.get_command(cli.app)
    seen = 0
    for path in PAGES:
        for words in (words for code in blocks(path, "sh") for words in commands(code)):
            program = Path(words[0]).name
            if program == "make":
                assert {word for word in words[1:] if "=" not in word} <= targets, words
                seen += 1
            if program == "danqing" and words[1] in group.commands:
                command, rest = group.commands[words[1]], words[2:]
                if words[1] in PASSED_ON and rest and not rest[0].startswith("-"):
                    command, rest = named(PASSED_ON[words[1]], rest[0]), rest[1:]
                known = options_of(command)
                assert {word.split("=")[0] for word in rest if re.match(r"--?[a-z]", word)} <= known, words
                seen += 1
    assert seen >= 10


def runnable(path: Path) -> list[str]:
    """Shell and Python blocks, without lines that set up, serve for ever or take minutes."""
    found = []
    for language, code in FENCE.findall(path.read_text("utf-8")):
        lines = [line for line in code.splitlines() if not re.match(r"(make|danqing serve|apt|uv|git) ?", line)]
        if language == "sh" and any(re.match(r"(\S*/)?(danqing|curl) ", line) for line in lines):
            found.append("\n".join(lines))
        if language == "python":
            found.append("python - <<'END'\n" + code + "\nEND")
    return found


@pytest.mark.parametrize(
    "path", [p for p in PAGES if runnable(p) and not p.name.endswith(".zh-CN.md")], ids=lambda p: p.name
)
def test_commands_in_the_documents_run(path: Path, server: Server, tmp_path: Path) -> None:
    """The Chinese pages have the same commands, as a test above says."""
    if not shutil.which("curl"):
        pytest.skip("curl is missing")
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "NO_PROXY": "*"}
    for code in runnable(path):
        script = (
            code.replace(HERE, server.base_url)
            .replace(".venv/bin/", "")
            .replace("curl -s ", "curl -s --fail-with-body ")
        )
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"


def test_the_readme_call_answers_with_a_picture(server: Server) -> None:
    """The README's curl example, its body read out of it: what comes back is a PNG of that size."""
    body = re.search(r"-d '(\{.*?\})'", (ROOT / "README.md").read_text("utf-8"))
    assert body
    with httpx.Client(base_url=server.base_url, timeout=120, trust_env=False) as client:
        answer = client.post("/sdapi/v1/txt2img", content=body[1], headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    assert answer.json()["images"][0].startswith("iVBORw0KGgo")
