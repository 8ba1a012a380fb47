"""The benchmarks' own arithmetic, their command line, and the places where their tables are published."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import publish, report
from bench.faults import faults_in

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(("share", "value"), [(0.5, 3.0), (0.95, 4.8)])
def test_percentiles(share: float, value: float) -> None:
    assert report.percentile([5.0, 1.0, 4.0, 2.0, 3.0], share) == pytest.approx(value, abs=0.01)


def test_the_percentile_of_one_value_is_it() -> None:
    assert report.percentile([7.0], 0.95) == 7.0


def test_a_table_has_every_column_of_its_rows() -> None:
    lines = report.markdown([{"side": "a", "s": 0.12345}, {"side": "b", "s": 123.456, "more": 2}]).splitlines()
    assert lines == ["| side | s | more |", "| --- | ---: | ---: |", "| a | 0.123 |  |", "| b | 123.5 | 2 |"]


def test_every_benchmark_is_there_documented_and_published() -> None:
    pages = [(ROOT / "docs" / name).read_text("utf-8") for name in ("benchmarks.md", "benchmarks.zh-CN.md")]
    for name in (*command.ALL, *command.MORE):
        assert (ROOT / "bench" / f"{name}.py").is_file()
        assert name in publish.TITLES or name in command.MORE
        for page in pages:
            assert f"| `{name}` |" in page
            assert name not in publish.TITLES or f"<!-- bench: {name} -->" in page


def test_an_unknown_benchmark_is_refused() -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "nothing"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "there are mini, start, overhead, serving" in done.stderr


def test_the_benchmark_of_gpus_runs_on_a_cpu() -> None:
    page = ROOT / "docs/benchmarks-gpu.md"
    before = page.read_text("utf-8") if page.exists() else ""
    done = subprocess.run(
        [sys.executable, "-m", "bench.gpu", "--device", "cpu", "--small", "--no-start"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for heading in ("What a step costs more", "Larger pictures", "Several people at once", "Throughput"):
        assert heading in done.stdout
    for side in ("| danqing | 2 |", "| diffusers | 2 |", "with one ControlNet", "another strength of it"):
        assert side in done.stdout
    # Figures of a CPU are not published as a card's.
    assert (page.read_text("utf-8") if page.exists() else "") == before


def test_the_peak_is_that_of_the_card() -> None:
    from bench.gpu_network import peak_of

    assert peak_of("NVIDIA L40S") == 362
    assert peak_of("NVIDIA L4") == 121
    assert peak_of("Tesla T4") == 65
    assert peak_of("NVIDIA A10G") == 125
    assert peak_of("something new") is None


def test_the_fault_bench_names_what_must_not_be() -> None:
    fine = {"test": "soak", "jobs": 2000, "lost": 0, "twice": 0, "untold": 0, "broken": 0, "MB grown %": 1.2}
    assert faults_in([fine, fine | {"jobs": 50, "MB grown %": 9.0}]) == []
    assert faults_in([fine | {"lost": 3}, fine | {"MB grown %": 2.5}]) == [
        "soak: 3 lost",
        "soak: memory has grown by 2.5 %",
    ]
