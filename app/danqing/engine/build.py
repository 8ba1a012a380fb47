"""Puts an engine together from settings: device, number format, models, plans."""

from __future__ import annotations

from pathlib import Path

import torch

from danqing.engine.calls import Load, Plan, Track
from danqing.engine.engine import Emit, Engine
from danqing.engine.models import ExternalVae, Model, load, load_vae
from danqing.engine.plans import measure, plan
from danqing.engine.runner import Runner
from danqing.engine.scheduler import Limits
from danqing.engine.store import ModelStore
from danqing.engine.studio import Studio
from danqing.engine.vae import free_memory
from danqing.library.index import Checkpoint, Library
from danqing.request import GenerateRequest
from danqing.settings import Settings


def choose_device(name: str) -> torch.device:
    """`auto` is the first GPU that torch can really compute on, else the CPU."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        try:
            torch.ones(2, device="cuda").sum().item()
            return torch.device("cuda")
        except RuntimeError:
            return torch.device("cpu")
    return torch.device("cpu")


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto`: float32 on a CPU, float16 elsewhere."""
    if name == "auto":
        name = "float32" if device.type == "cpu" else "float16"
    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[name]


class Workshop:
    """Everything one engine process holds."""

    def __init__(self, data: Path, settings: Settings, emit: Emit) -> None:
        self.device = choose_device(settings.get_str("engine_device"))
        self.dtype = choose_dtype(settings.get_str("engine_dtype"), self.device)
        self.library = Library(data)
        self.studio = Studio.of(data, self.library)
        self.runner = Runner(self.device, settings.get_int("engine_threads"))
        self.models = ModelStore(self._load, settings.get_int("engine_models"), self.runner.forget, self._load_vae)
        self.runner.kept_elsewhere += [
            self.models.drop_unused,
            self.studio.control_store.forget,
            self.studio.memory.clear,
        ]
        self._room = settings.get_int("engine_memory_mb") * 2**20
        self.engine = Engine(
            self.runner,
            self.models,
            emit,
            make_plan=self._plan,
            measure=measure,
            limits=Limits(
                rows=settings.get_int("engine_rows"),
                denoise_budget=settings.get_int("engine_denoise_budget"),
                decode_budget=settings.get_int("engine_decode_budget"),
                gain=settings.get_float("engine_gain"),
            ),
            pictures=settings.get_int("engine_pictures"),
            preview_seconds=settings.get_float("preview_seconds"),
            free=lambda: self._room or free_memory(self.device),
        )

    def device_name(self) -> str:
        """As people know it."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"CPU, {torch.get_num_threads()} threads"

    def load_default(self) -> Model:
        """The default checkpoint, in memory.

        Raises:
            DanqingError: `no_model` or `model_broken`.
        """
        model: Model = self.models.acquire(Load(self.library.default())).result()
        self.models.release(model)
        return model

    def warm_up(self) -> None:
        """Draw one small picture, so that the first user does not pay for first calls."""
        request = GenerateRequest(prompt="a", steps=2, width=64, height=64, seed=0, sampler="Euler")
        self.engine.submit(WARM_UP, request)
        self.engine.finish()

    def stats(self) -> dict[str, float]:
        """Numbers for the metrics page: counters since the start, and memory in bytes."""
        found = dict(self.engine.counters)
        found["models"] = len(self.models.models())
        if self.device.type == "cuda":
            found["memory_allocated"] = torch.cuda.memory_allocated(self.device)
            found["memory_reserved"] = torch.cuda.memory_reserved(self.device)
        return found

    def _load(self, checkpoint: Checkpoint) -> Model:
        return load(checkpoint, self.device, self.dtype, self.library.sha256_of)

    def _load_vae(self, path: Path, model: Model) -> ExternalVae:
        return load_vae(path, model, self.library.sha256_of)

    def _plan(self, request: GenerateRequest, index: int, track: Track) -> Plan:
        return plan(request, index, self.studio.fresh(), track)


WARM_UP = "warm-up"
"""Id of the engine's own first job; its messages go nowhere."""
