"""A training through the API with the real engine, the real worker and the miniature model; killed in its middle."""

from __future__ import annotations

import io
import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from tests.api.support import SMALL
from tests.conftest import Server

MINUTES = 240
"""Seconds until whatever happens has happened on a busy machine."""


def until(client: httpx.Client, job: str, wanted: Any) -> dict[str, Any]:
    end = time.monotonic() + MINUTES
    while True:
        told: dict[str, Any] = client.get(f"/v1/jobs/{job}").json()
        if wanted(told):
            return told
        assert told["state"] in ("queued", "running"), told
        assert time.monotonic() < end, told
        time.sleep(0.2)


def engine_of(server: Server) -> int:
    """The engine's process: a child of the server's."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes()
            parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if b"danqing.engine.main" in words and parent == str(server.process.pid):
            return int(path.name)
    raise AssertionError("no engine")


def test_a_lora_survives_its_engine_and_draws(server: Server) -> None:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), (120, 40, 160)).save(out, "PNG")
    with server.client() as client:
        files = [("files", ("one.png", out.getvalue()))]
        assert client.post("/v1/datasets/one", files=files).status_code == 200
        fields = {"steps": 8, "batch_size": 1, "resolution": 64, "save_every": 2, "sample_every": 8, "sample_steps": 2}
        body = {"kind": "train", "method": "lora", "name": "striped", "data": "one", "preset": "cpu-mini", **fields}
        answer = client.post("/v1/jobs", json={**body, "sample_prompts": ["zqx"]})
        assert answer.status_code == 202, answer.text
        job = answer.json()["id"]
        until(client, job, lambda told: told["training"]["step"] >= 3)
        os.kill(engine_of(server), signal.SIGKILL)
        done = until(client, job, lambda told: told["state"] == "done")
        assert done["error"] is None
        told = client.get(f"/v1/jobs/{job}/training").json()
        losses = {row["step"]: row["loss"] for row in told["rows"] if "loss" in row}
        assert sorted(losses) == list(range(1, 9))
        assert all(math.isfinite(loss) for loss in losses.values())
        assert sum("loss" in row for row in told["rows"]) <= 8 + 3, "it went on from a saved state"
        (file,) = told["result"]["files"]
        assert file["path"] == "models/Lora/striped.safetensors"
        saved = client.get(f"/v1/jobs/{job}/files/0")
        assert saved.content == (server.data / file["path"]).read_bytes()
        assert 'filename="striped.safetensors"' in saved.headers["content-disposition"]
        assert Image.open(io.BytesIO(client.get(f"/v1/jobs/{job}/samples/0").content)).size == (64, 64)
        # The result is in the next prompt at once.
        assert "striped" in [row["name"] for row in client.get("/sdapi/v1/loras").json()]
        drawn = client.post("/sdapi/v1/txt2img", json={**SMALL, "prompt": "a star <lora:striped:1>"}, timeout=MINUTES)
        assert drawn.status_code == 200, drawn.text
        assert "striped" in drawn.text
        (server.data / file["path"]).unlink()
