"""One recorded case: its request through the API's own translation, the plan and the engine; the differences."""

from __future__ import annotations

import base64
import json
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from danqing.api import settings as api_settings
from danqing.api.errors import ApiError
from danqing.api.fields import Img2Img, Txt2Img
from danqing.api.options import Options
from danqing.api.translate import wish
from danqing.engine.build import Workshop
from danqing.engine.calls import Decode
from danqing.engine.protocol import ImageFacts, Message
from danqing.engine.scheduler import Kind
from danqing.engine.settings import ROWS
from danqing.errors import DanqingError
from danqing.gallery import infotext
from danqing.gallery import settings as gallery_settings
from danqing.jobs import settings as jobs_settings
from danqing.request import LIMITS, GenerateRequest, parsed
from danqing.settings import Settings

LATENT_BOUND = 2e-4
CONTROL_BOUND = 5e-5
PIXEL_BOUND = 2
CLIENT = "parity"
VERSION = "v1.10.1"


@dataclass
class Result:
    """How far ours is from the recording; None where there is nothing to compare with. `note`: what else differs."""

    latent: float | None = None
    pixels: int | None = None
    note: str = ""
    bound: float = LATENT_BOUND

    @property
    def good(self) -> bool:
        near = (self.latent is None or self.latent <= self.bound) and (
            self.pixels is None or self.pixels <= PIXEL_BOUND
        )
        return near and not self.note.startswith("!")


@dataclass
class Ours:
    """What the engine gave: pictures by place, latents in the order of their decoding."""

    images: dict[int, np.ndarray[Any, Any]] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    latents: dict[int, list[np.ndarray[Any, Any]]] = field(default_factory=dict)
    decoded: list[np.ndarray[Any, Any]] = field(default_factory=list)
    """Every latent that was decoded, in the order of the decoder."""
    scripted: bool = False
    error: DanqingError | None = None


class Replay:
    """A data root with an engine on it."""

    def __init__(self, data: Path, inputs: Path, out: Path, threads: int = 1) -> None:
        self._inputs, self.out, self.data = inputs, out, data
        rows = (*LIMITS, *ROWS, *gallery_settings.ROWS, *api_settings.ROWS, *jobs_settings.ROWS)
        settings = Settings(rows, {"engine_threads": threads})
        self._ours, self._request = Ours(), GenerateRequest()
        self.workshop = Workshop(data, settings, self._hear)
        self._watch_decodes()
        self._context: Any = SimpleNamespace(
            library=self.workshop.library, settings=settings, options=Options(data), logins=SimpleNamespace(data=data)
        )
        self._set_options(data / "config.json")

    def _set_options(self, path: Path) -> None:
        if not path.is_file():
            return
        table = self._context.options.table
        kept = {key: value for key, value in json.loads(path.read_text("utf-8")).items() if key in table}
        usable = {}
        for key, value in kept.items():
            try:
                usable |= self._context.options.checked({key: value})
            except (DanqingError, ApiError):
                continue
        usable.pop("sd_model_checkpoint", None)
        usable.pop("sd_checkpoint_hash", None)
        self._context.options.set(CLIENT, usable)

    def _watch_decodes(self) -> None:
        """Write down the latents that plans decode, by picture."""
        make = self.workshop.engine._make_plan

        def watched(request: GenerateRequest, index: int, track: Any) -> Generator[Any, Any, Any]:
            plan, answer = make(request, index, track), None
            found = self._ours.latents.setdefault(index, [])
            while True:
                try:
                    call = plan.send(answer)
                except StopIteration as stop:
                    return stop.value
                if isinstance(call, Decode):
                    found.append(call.latent.numpy())
                answer = yield call

        self.workshop.engine._make_plan = watched
        run = self.workshop.runner.run

        def watched_run(kind: Kind, payloads: Any) -> list[Any]:
            if kind is Kind.DECODE:
                self._ours.decoded += [call.latent.numpy() for call in payloads]
            return run(kind, payloads)

        self.workshop.runner.run = watched_run  # type: ignore[method-assign]

    def case(self, path: Path) -> Result:
        """Draw the case and compare; the pictures and latents are written to the out folder."""
        case = json.loads(path.read_text("utf-8"))
        if "request" not in case or case["request"] is None:
            return Result(note="no request")
        try:
            ours = self.draw(case["request"])
        except (DanqingError, ApiError) as error:
            if case.get("status", 200) >= 400:
                return Result(note=f"refused, as recorded: {str(error)[:80]}")
            return Result(note=f"! {error}")
        if ours.error is not None:
            return Result(note=f"! {ours.error.code}: {ours.error}")
        self._write(path.stem, ours)
        result = Result(bound=CONTROL_BOUND if path.stem.startswith("cn_") else LATENT_BOUND)
        compare(path, case, ours, result)
        return result

    def draw(self, body: dict[str, Any]) -> Ours:
        """The pictures of an API request.

        Raises:
            DanqingError, ApiError: as the API would answer.
        """
        body = self._filled(body)
        fields = Img2Img(**body) if "init_images" in body else Txt2Img(**body)
        request = wish(fields, self._context, CLIENT).request.resolved()
        self._ours, self._request = Ours(scripted=request.script is not None), request
        self.workshop.engine.submit("case", request)
        self.workshop.engine.finish()
        return self._ours

    def _filled(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._filled(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self._filled(one) for one in value]
        if isinstance(value, str) and value.startswith("@inputs/"):
            return base64.b64encode((self._inputs / value.removeprefix("@inputs/")).read_bytes()).decode()
        return value

    def _hear(self, message: Message) -> None:
        body, ours = message.body, self._ours
        if body["event"] == "failed":
            ours.error = DanqingError.from_dict(body["error"])
        elif body["event"] == "image":
            facts, index = ImageFacts.from_dict(body["facts"]), body["index"]
            shape = (facts.height, facts.width, facts.channels)
            ours.images[index] = np.frombuffer(message.blobs[0], np.uint8).reshape(shape)
            request = parsed(body["request"]) if "request" in body else self._request
            ours.texts[index] = infotext.write(request, facts, VERSION)

    def _write(self, name: str, ours: Ours) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        for place, index in enumerate(sorted(ours.images)):
            Image.fromarray(ours.images[index]).save(self.out / f"{name}.{place}.png")
        for place, latent in enumerate(finals(ours)):
            np.savez(self.out / f"{name}.{place}.npz", latent=latent)


def finals(ours: Ours) -> list[np.ndarray[Any, Any]]:
    """The latent of each picture, in the pictures' order: the last that its plan decoded. Of a script, all of them."""
    if ours.scripted:
        return ours.decoded
    return [found[-1] for _, found in sorted(ours.latents.items()) if found]


def compare(path: Path, case: dict[str, Any], ours: Ours, result: Result) -> None:
    """Fill `result` from the recording beside `path`."""
    _latents(path, ours, result)
    images = [ours.images[index] for index in sorted(ours.images)]
    count = case.get("n_images")
    if count is not None and count != len(images) and not result.note:
        result.note = f"! {len(images)} pictures, recorded {count}"
    differences = []
    for place, image in enumerate(images):
        png = path.with_name(f"{path.stem}.{place}.png")
        if not png.is_file():
            continue
        theirs = np.asarray(Image.open(png))
        if theirs.shape != image.shape:
            result.note = f"! picture {place} is {image.shape}, recorded {theirs.shape}"
        else:
            differences.append(int(np.abs(theirs.astype(int) - image.astype(int)).max()))
    result.pixels = max(differences, default=None)
    _infotext(case, ours, result)


def _latents(path: Path, ours: Ours, result: Result) -> None:
    recorded = path.with_name(f"{path.stem}.0.npz")
    if not recorded.is_file():
        return
    file = np.load(recorded)
    found = [file[key].astype(np.float64) for key in file if key.endswith("_latent")]
    if not found:
        return
    theirs, mine = np.concatenate(found), finals(ours)
    if ours.scripted:  # the recording keeps one of the latents of a script
        same = [[distance(m, t) for m in mine if m.shape == t.shape] for t in theirs]
        result.latent = max((min(row) for row in same if row), default=None)
        return
    if len(mine) != len(theirs) or any(m.shape != t.shape for m, t in zip(mine, theirs, strict=True)):
        result.note = f"! latents {[m.shape for m in mine]}, recorded {theirs.shape}"
        return
    result.latent = max(distance(m, t) for m, t in zip(mine, theirs, strict=True))


def distance(mine: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> float:
    """Relative distance of two latents."""
    return float(np.linalg.norm(mine - theirs) / max(np.linalg.norm(theirs), 1e-9))


def _infotext(case: dict[str, Any], ours: Ours, result: Result) -> None:
    info = case.get("info")
    texts = info.get("infotexts", []) if isinstance(info, dict) else []
    mine = [ours.texts[index] for index in sorted(ours.texts)]
    if texts and mine and texts[0] not in mine and not result.note:
        result.note = f"infotext {mine[0].rpartition(chr(10))[2]!r} recorded {texts[0].rpartition(chr(10))[2]!r}"
