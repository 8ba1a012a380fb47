"""Lint, types and every test that this machine can run, in stages; `make test` and `.ci/run` come here.

Prints how long each stage took and, as its last line, the sums of pytest's closing lines. Exits 1 when anything failed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
ENGINE = (
    "engine",
    "parity",
    "adapters",
    "control",
    "imaging",
    "upscale",
    "library",
    "prompt",
    "mini",
    "test_generate.py",
)
DOORS = ("api", "jobs", "faults", "gallery", "ui", "docs", "test_app.py", "test_front.py", "test_cli.py")
TWO = ("-n", "2", "--dist", "loadfile")
IMAGE = ("packer", "ansible", "nginx")
IMAGE_PROGRAMS = ("packer", "nginx", "shellcheck", "systemd-analyze")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
COUNT = re.compile(r"(\d+) (passed|failed|skipped|error|errors|deselected|xfailed|xpassed)\b")
BEGUN = time.monotonic()
NO_TESTS = 5
"""pytest's exit status when it collected nothing."""


@dataclass
class Stage:
    """A part of the run and how it went."""

    name: str
    commands: list[list[str]]
    beside: bool = False
    """It runs beside the stages that follow, and what it prints comes at its end."""
    seconds: float = 0.0
    ok: bool = True
    note: str = ""
    counts: Counter[str] = field(default_factory=Counter)


def pytest(*paths: Path | str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "--durations=5", *map(str, paths)]


def stages() -> list[Stage]:
    """Lint first, then tests from the quick to the slow; a test file in no list runs with the units."""
    elsewhere = [TESTS / name for name in (*ENGINE, *DOORS, *IMAGE, "browser", "box")]
    tool = [sys.executable, "-m"]
    return [
        Stage(
            "lint",
            [
                [*tool, "ruff", "check", "."],
                [*tool, "ruff", "format", "--check", "."],
                [*tool, "mypy"],
                [sys.executable, "tools/audit.py"],
            ],
        ),
        # Side by side where nothing of the machine's is shared: a file of tests stays with one worker.
        Stage("units", [pytest(TESTS, *(f"--ignore={path}" for path in elsewhere), *TWO)]),
        Stage("engine", [pytest(*_existing(ENGINE), *TWO)]),
        Stage("doors", [pytest(*_existing(DOORS), *TWO)]),
        Stage("image", [pytest(*_existing(IMAGE), *TWO)]),
        # A browser and the box's machines both wait much: side by side they take little longer than one of them.
        Stage("box", [pytest(*_existing(("box",)), "-s")], beside=True),
        Stage("browser", [pytest(*_existing(("browser",)))]),
    ]


def _existing(names: tuple[str, ...]) -> list[Path]:
    return [path for path in (TESTS / name for name in names) if path.exists()]


def run(stage: Stage, show: Callable[[str], object]) -> None:
    """Run the stage's commands, output handed to `show` as it comes; all of them run even after one failed."""
    show(f"\n=== {stage.name}\n")
    start = time.monotonic()
    for command in stage.commands:
        status, last = _passed_through(command, show)
        stage.counts.update({word.rstrip("s"): int(count) for count, word in COUNT.findall(last)})
        stage.ok &= status == 0 or (status == NO_TESTS and "pytest" in command)
    stage.seconds = time.monotonic() - start


ONE_THREAD = {"OMP_NUM_THREADS": "1", "DANQING_ENGINE_THREADS": "1"}
"""Two workers, each with an engine: with a thread a core each, they would wait for one another at every barrier."""


def _print(line: str) -> None:
    print(line, end="", flush=True)


def _passed_through(command: list[str], show: Callable[[str], object]) -> tuple[int, str]:
    last, environment = "", {**ONE_THREAD, **os.environ}
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout
        for line in process.stdout:
            show(line)
            last = line if line.strip() else last
    return process.returncode, last


def missing_browser() -> str:
    """Why the browser stage cannot run, "" when it can; as root on Debian or Ubuntu, Chromium is installed first."""
    if any(map(shutil.which, BROWSERS)):
        return ""
    hint = "Chromium is missing (Debian and Ubuntu: apt-get install chromium fonts-noto-cjk)"
    if not shutil.which("apt-get"):
        return hint
    if os.geteuid() != 0:
        return f"{hint}; not installed here because that needs root"
    apt = ["apt-get", "-y", "-qq", "-o", "Acquire::Retries=3"]
    for command in ([*apt, "update"], [*apt, "install", "--no-install-recommends", "chromium", "fonts-noto-cjk"]):
        subprocess.run(
            command, check=False, stdout=subprocess.DEVNULL, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        )
    return "" if any(map(shutil.which, BROWSERS)) else f"{hint}; installing it failed"


def image_tools() -> None:
    """Ansible and what reads Packer's files go into this environment; as root on Debian, programs are installed too."""
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "install", "-c", "constraints.txt"]
    subprocess.run([*pip, "-e", ".[box]"], cwd=ROOT, check=False)
    if os.geteuid() == 0 and shutil.which("apt-get") and not all(map(shutil.which, IMAGE_PROGRAMS)):
        _boxlab("import host; host.apt_install(host.TEST_PACKAGES)")


BOX_UNTIL = 26 * 60
"""Seconds into the run after which the box stage, ten minutes beside the browser's, is left out; not with `DANQING_BOX=1`."""


def missing_box() -> str:
    """Why the box stage cannot run, "" when it can; as root on Debian or Ubuntu, what it needs is installed first."""
    gone = time.monotonic() - BEGUN
    if gone > BOX_UNTIL and os.environ.get("DANQING_BOX") != "1":
        return f"{gone / 60:.0f} minutes are gone; run it by itself: DANQING_BOX=1 {sys.executable} tools/check.py box"
    return _boxlab("import host; print(host.why_not(install=True))")


def _boxlab(code: str) -> str:
    script = f"import sys; sys.path.insert(0, 'tools'); from boxlab {code}"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


PREPARE = {"browser": missing_browser, "image": image_tools, "box": missing_box}


def main() -> int:
    """All stages, or those named on the command line."""
    done = [stage for stage in stages() if not sys.argv[1:] or stage.name in sys.argv[1:]]
    with ThreadPoolExecutor() as beside:
        later: list[tuple[Future[None], list[str]]] = []
        for stage in done:
            stage.note = PREPARE.get(stage.name, str)() or ""
            if stage.note:
                _print(f"\n=== {stage.name}: skipped. {stage.note}\n")
            elif stage.beside:
                said: list[str] = []
                later.append((beside.submit(run, stage, said.append), said))
            else:
                run(stage, _print)
        for running, said in later:
            running.result()
            _print("".join(said))
    return _close(done)


def _close(done: list[Stage]) -> int:
    print("\nstage      seconds")
    total: Counter[str] = Counter()
    for stage in done:
        verdict = f"skipped: {stage.note}" if stage.note else "ok" if stage.ok else "FAILED"
        print(f"{stage.name:<10} {stage.seconds:7.1f}  {verdict}")
        total += stage.counts
    failed = total["failed"] + total["error"]
    print(f"{total['passed']} passed, {failed} failed, {total['skipped']} skipped")
    return 0 if total["passed"] and not failed and all(stage.ok for stage in done) else 1


if __name__ == "__main__":
    sys.exit(main())
