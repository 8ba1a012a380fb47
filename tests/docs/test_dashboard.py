"""The Grafana dashboard speaks of metrics that there are, and of every one that an operator watches."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.conftest import Server

DASHBOARD = Path(__file__).resolve().parents[2] / "docs" / "grafana" / "danqing.json"
ON_A_GPU = {"danqing_engine_memory_allocated", "danqing_engine_memory_reserved"}
"""Numbers that an engine on a CPU does not tell."""


def expressions() -> list[str]:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_every_metric_of_the_dashboard_is_there(server: Server) -> None:
    with server.client() as client:
        body = {"prompt": "a", "steps": 1, "width": 64, "height": 64}
        client.post("/sdapi/v1/txt2img", json=body).raise_for_status()
        text = client.get("/metrics").text
    shown = set(re.findall(r"^(\w+)(?:\{|\s)", text, re.MULTILINE)) | ON_A_GPU
    types = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    asked = {name for one in expressions() for name in re.findall(r"\bdanqing_\w+", one)}
    # No job has failed: a counter that has no value yet is known by its type alone.
    assert asked <= shown | types
    assert {"danqing_ready", "danqing_jobs", "danqing_disk_free_bytes", "danqing_engine_starts"} <= asked
    assert 'danqing_job_seconds_bucket{le="+Inf",phase="drawing"}' in text


def test_panels_stand_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
