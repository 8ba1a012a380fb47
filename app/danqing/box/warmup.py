"""Waits until Danqing draws, then draws one picture with every model that is kept in memory, and says how long each took."""

from __future__ import annotations

import json
import time
from typing import Any

from danqing.box.errors import BoxError
from danqing.box.local import Answer, Client
from danqing.box.phases import phase, read, since_start, write
from danqing.box.places import Places

WAIT_SECONDS = 1500.0
POLL_SECONDS = 0.5
MOST_MODELS = 2
"""As many checkpoints stay in memory by default (setting engine_models)."""
HOPELESS = ("driver_too_old", "gpu_broken")
"""Errors that waiting does not mend."""
STEPS = 20
STEPS_ON_CPU = 4
"""A picture of all steps would keep a CPU busy for minutes, while somebody may want to draw."""
WITH_GPU = ("untested", "ok")
"""What `danqing box gpu --preflight` says of a machine that draws on its GPU."""
PROMPT = "a red circle on a white background"


def run(
    places: Places, client: Client, models: int = MOST_MODELS, wait: float = WAIT_SECONDS
) -> list[tuple[str, float]]:
    """Model and seconds of each picture drawn.

    Raises:
        BoxError: `not_answering`, `picture_failed`.
    """
    wait_until_ready(places, client, wait)
    with phase(places, "warmup") as running:
        times: list[tuple[str, float]] = []
        titles = _models(client)[:models]
        steps = STEPS if read(places).get("device") in WITH_GPU else STEPS_ON_CPU
        for place, title in enumerate(titles):
            running.tell(progress=place / len(titles))
            times.append((title, draw(client, title, steps)))
        running.row["note"] = ", ".join(f"{title}: {seconds:.2f} s, {steps} steps" for title, seconds in times)
    write(places, [], ready=True, first_picture=since_start())
    return times


def wait_until_ready(places: Places, client: Client, seconds: float) -> None:
    """Wait for /readyz, its phases told on the waiting page meanwhile.

    Raises:
        BoxError: `not_answering`.
    """
    end, began = time.monotonic() + seconds, since_start()
    seen: dict[str, float] = {}
    while True:
        answer = client.get("/readyz")
        told = answer.json()
        rows = [_row(row, seen) for row in told.get("phases", ()) if isinstance(row, dict)]
        write(places, rows, ready=answer.status == 200)
        if answer.status == 200:
            return
        if told.get("error") in HOPELESS:
            raise BoxError("not_answering", seconds=round(since_start() - began), state=str(told["error"]))
        if time.monotonic() >= end:
            states = (f"{row['name']} {row['state']}" for row in rows if row["state"] != "done")
            state = str(told.get("error") or next(states, f"HTTP {answer.status}"))
            raise BoxError("not_answering", seconds=int(seconds), state=state)
        time.sleep(POLL_SECONDS)


def _row(told: dict[str, Any], seen: dict[str, float]) -> dict[str, Any]:
    """A phase of the app as the report has it. It does not tell when it began: that is reckoned when it is first seen."""
    name, seconds = str(told.get("name")), float(told.get("seconds", 0.0))
    start = seen.setdefault(name, round(max(0.0, since_start() - seconds), 2))
    return {"name": name, "state": str(told.get("state")), "seconds": seconds, "start": start, "note": ""}


def _models(client: Client) -> list[str]:
    answer = client.get("/sdapi/v1/sd-models", seconds=60)
    try:
        rows = json.loads(answer.text) if answer.status == 200 else []
    except ValueError:
        rows = []
    return [str(row["title"]) for row in rows if isinstance(row, dict) and row.get("title")]


def draw(client: Client, title: str, steps: int = STEPS_ON_CPU) -> float:
    """Seconds of one picture, with the default model where none is named.

    Raises:
        BoxError: `picture_failed`.
    """
    began = time.monotonic()
    side = 128 if title.startswith("danqing-mini") else 512
    body: dict[str, Any] = {
        "prompt": PROMPT,
        "steps": steps,
        "width": side,
        "height": side,
        "seed": 1,
        "save_images": False,
    }
    if title:
        body["override_settings"] = {"sd_model_checkpoint": title}
    answer = client.post("/sdapi/v1/txt2img", body)
    if answer.status != 200 or not answer.json().get("images"):
        raise BoxError("picture_failed", model=title, reason=_reason(answer))
    return round(time.monotonic() - began, 2)


def _reason(answer: Answer) -> str:
    told = answer.json()
    return str(told.get("errors") or told.get("detail") or answer.text[:200] or f"HTTP {answer.status}")
