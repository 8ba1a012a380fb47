"""The house stands: imports go down only, rooms do not know what they need not know, nothing grows out of hand.

Reads the sources as syntax trees, so an import inside a function counts like any other.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "app" / "danqing"

FLOORS: tuple[tuple[str, ...], ...] = (
    ("cloud", "notify"),
    ("torchvision_shim",),
    ("prompt",),
    ("library", "imaging"),
    ("adapters",),
    ("upscale",),
    ("control", "shipped"),
    ("mini",),
    ("engine",),
    ("train",),
    ("database",),
    ("gallery",),
    ("jobs",),
    ("cluster",),
    ("api",),
    ("ui",),
    ("client",),
    ("app", "cli", "desk", "doorstep", "front", "generate", "log", "box"),
)
"""From the cellar up. A room imports its own modules and those of lower floors."""

SHARED = {
    "danqing",
    "error_files",
    "error_queue",
    "error_training",
    "errors",
    "settings",
    "options",
    "request",
    "plugins",
    "reasons",
}
"""The words that everybody may import; they import each other only."""

OF_THE_OTHER_FLOOR = {("box", "cloud"), ("train", "mini"), ("mini", "train")}
"""Neighbours that do not know each other."""

TENSORS = {"torch", "torchsde", "diffusers", "transformers", "accelerate", "cv2", "scipy"}
WEB = {"fastapi", "starlette", "uvicorn", "gradio", "httpx"}

DOES_NOT_KNOW: dict[str, set[str]] = {
    "ui": TENSORS | {"sqlite3"},
    "api": TENSORS | {"gradio"},
    "jobs": TENSORS | WEB,
    "gallery": TENSORS | WEB,
    "database": TENSORS | WEB,
    "client": TENSORS | WEB | {"sqlite3"},
    "app": TENSORS,
    "cli": TENSORS,
    "desk": TENSORS | WEB | {"sqlite3"},
    "front": TENSORS | {"gradio"},
    "log": TENSORS | WEB,
    "notify": TENSORS | WEB | {"sqlite3"},
    "engine": WEB | {"sqlite3"},
    "library": WEB | {"sqlite3"},
    "adapters": WEB | {"sqlite3"},
    "imaging": (TENSORS - {"cv2"}) | WEB | {"sqlite3"},
    "prompt": WEB | {"sqlite3", "diffusers"},
    "mini": WEB | {"sqlite3"},
    "train": WEB | {"sqlite3"},
    "control": WEB | {"sqlite3"},
    "upscale": WEB | {"sqlite3"},
    "shipped": WEB | {"sqlite3"},
    "generate": WEB | {"sqlite3"},
    **{word: TENSORS | WEB | {"sqlite3"} for word in SHARED},
}

TRAINING = ("train/recipe.py", "train/progress.py", "train/folder.py")
WITHOUT_TENSORS = ("engine/scheduler.py", "engine/catalog.py", "engine/protocol.py", "library/index.py", *TRAINING)
"""Files that the web process reads, or that are to be tested with plain objects."""

MODULES_OF = {"danqing": 40, "danqing.errors": 120, "danqing.settings": 130, "danqing.cli": 700}
"""Most modules that importing a name may add to those of a bare Python."""

WEB_PROCESS = ("danqing.app", "danqing.front", "danqing.cli", "danqing.jobs.service", "danqing.ui.page")

LINES_OF_FILE = 450
LINES_OF_FUNCTION = 60


@dataclass(frozen=True)
class Import:
    """One import of one module, `danqing.jobs.store` or `torch.nn`, and where it stands."""

    room: str
    module: str
    place: str


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """`jobs` for jobs/store.py, `errors` for errors.py, `danqing` for the package itself."""
    inside = path.relative_to(PACKAGE)
    if len(inside.parts) > 1:
        return inside.parts[0]
    return "danqing" if inside.stem == "__init__" else inside.stem


def modules_of(node: ast.AST, package: str) -> Iterator[str]:
    """Full names of what `node` imports; `from danqing import errors` is danqing.errors."""
    if isinstance(node, ast.Import):
        yield from (name.name for name in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
        module = ".".join(part for part in (base, node.module) if part)
        yield from (f"{module}.{name.name}" for name in node.names) if module == "danqing" else (module,)
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
        yield from (arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str))


def package_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).parent.parts)


@cache
def imports() -> tuple[Import, ...]:
    found = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            for module in modules_of(node, package_of(path)):
                place = f"{path.relative_to(ROOT)}:{node.lineno}"  # type: ignore[attr-defined]
                found.append(Import(room_of(path), module, place))
    return tuple(found)


def floor(room: str) -> int:
    if room in SHARED:
        return -1
    for height, rooms in enumerate(FLOORS):
        if room in rooms:
            return height
    raise AssertionError(f"danqing/{room} has no floor: give it one in FLOORS")


def test_imports_go_down() -> None:
    wrong = []
    for found in imports():
        if not found.module.startswith("danqing."):
            continue
        target = found.module.split(".")[1]
        if target == found.room or target == "__version__":
            continue
        if floor(target) > floor(found.room) or (found.room, target) in OF_THE_OTHER_FLOOR:
            wrong.append(f"{found.place}: {found.room} imports {found.module}")
    assert not wrong, "\n".join(wrong)


def test_rooms_do_not_know_what_they_need_not_know() -> None:
    wrong = [
        f"{found.place}: {found.room} imports {found.module}"
        for found in imports()
        if found.module.split(".")[0] in DOES_NOT_KNOW.get(found.room, set())
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_ui_knows_gradio() -> None:
    wrong = [f.place for f in imports() if f.module.split(".")[0] == "gradio" and f.room != "ui"]
    assert not wrong, wrong


@pytest.mark.parametrize("name", WITHOUT_TENSORS)
def test_files_without_tensors(name: str) -> None:
    path = PACKAGE / name
    known = {m.split(".")[0] for node in ast.walk(ast.parse(path.read_text("utf-8"))) for m in modules_of(node, "")}
    assert not known & (TENSORS | {"numpy", "safetensors"}), name


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(("name", "most"), MODULES_OF.items())
def test_importing_does_little(name: str, most: int) -> None:
    added = modules_after(f"import {name}") - modules_after("pass")
    assert len(added) <= most, sorted({module.split(".")[0] for module in added})
    assert not {"gradio", "uvicorn", "fastapi", "torch"} & added


@pytest.mark.parametrize("name", WEB_PROCESS)
def test_the_web_process_has_no_torch(name: str) -> None:
    loaded = modules_after(f"import {name}")
    assert not loaded & {"torch", "diffusers", "transformers", "accelerate"}


LISTS = ("LICENSE", "manifest.toml")
"""Files whose length is not writing: a licence, and the manifest, one entry a file that can be fetched."""


def tracked() -> list[Path]:
    """Files of the repository that people write: by git, or all of them in a tree without it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    names = [ROOT / name for name in listed.stdout.split("\0") if name] or [
        *PACKAGE.rglob("*"),
        *(ROOT / "tests").rglob("*"),
    ]
    written = {".py", ".md", ".sql", ".sh", ".css", ".js", ".html", ".yaml", ".toml", ""}
    return [path for path in names if path.suffix in written and path.is_file() and path.name not in LISTS]


def test_files_stay_short() -> None:
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in tracked()}
    assert len(lengths) > 20
    long = [f"{path.relative_to(ROOT)}: {count} lines" for path, count in lengths.items() if count > LINES_OF_FILE]
    assert not long, long


def test_functions_fit_a_screen() -> None:
    long = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = (node.end_lineno or node.lineno) - node.lineno + 1
                if count > LINES_OF_FUNCTION:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {count} lines")
    assert not long, "\n".join(long)


def test_importing_a_module_runs_nothing() -> None:
    """At module level there are definitions, assignments and imports; no loops, no calls for their effect, no open files."""
    wrong = []
    for path in sources():
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.For | ast.While | ast.With) or is_bare_call(node):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)[:80]}")
    assert not wrong, "\n".join(wrong)


def is_bare_call(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await)


def test_the_rules_see_a_breach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An upward import, a lazy torch in a room of the web process and a relative import are all found."""
    house = tmp_path / "danqing"
    for room, text in (
        ("jobs", "def f():\n    from danqing.api import auth\n    import torch.nn\n"),
        ("gallery", "from ..jobs import store\n"),
    ):
        (house / room).mkdir(parents=True)
        (house / room / "bad.py").write_text(text)
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", house)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    imports.cache_clear()
    try:
        with pytest.raises(AssertionError, match="jobs imports torch"):
            test_rooms_do_not_know_what_they_need_not_know()
        with pytest.raises(AssertionError) as caught:
            test_imports_go_down()
        assert "gallery imports danqing.jobs" in str(caught.value)
        assert "jobs imports danqing.api" in str(caught.value)
    finally:
        imports.cache_clear()
