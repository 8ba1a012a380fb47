"""Puts an engine together from settings: device, number format, models, plans."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import torch
from PIL.Image import Image

from danqing.engine import device, gauges, memory
from danqing.engine.calls import Load, Plan, Track
from danqing.engine.compile import roots
from danqing.engine.compile_store import Store
from danqing.engine.compiled import CompiledNetworks
from danqing.engine.detect import detected
from danqing.engine.device_graphs import CudaRecorder, Graphs
from danqing.engine.engine import Emit, Engine
from danqing.engine.interrogate import Interrogators
from danqing.engine.interrogators import Manner
from danqing.engine.live import Extent, work
from danqing.engine.models import ExternalVae, Model, load, load_vae
from danqing.engine.parking import Parking
from danqing.engine.plans import measure, plan
from danqing.engine.protocol import Message
from danqing.engine.runner import Runner
from danqing.engine.safety import SafetyChecker
from danqing.engine.scheduler import Limits
from danqing.engine.scripts.run import check_limits
from danqing.engine.store import ModelStore
from danqing.engine.studio import Studio
from danqing.engine.translation import Translator
from danqing.engine.vae import free_memory
from danqing.errors import DanqingError
from danqing.library.index import Checkpoint, Library
from danqing.plugins.loading import Plugins, activate
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


class Workshop:
    """Everything one engine process holds."""

    def __init__(self, data: Path, settings: Settings, emit: Emit) -> None:
        self.device = choose_device(settings.get_str("engine_device"))
        self.facts = device.facts_of(self.device)
        self.device_class = device.class_of(self.facts)
        self.dtype = device.precision(settings.get_str("engine_dtype"), self.device_class)
        self.library = Library(data)
        activate(Plugins(data, "engine")).find()
        self.studio = Studio.of(data, self.library)
        self.runner = Runner(
            self.device, settings.get_int("engine_threads"), self._compiled(data, settings), self.device_class
        )
        device.tune(self.device_class, half_sums=settings.get_bool("engine_half_sums"))
        parked = settings.get_int("engine_parked_mb") * 2**20 if self.device.type == "cuda" else 0
        parking = Parking(self.device, parked)  # on a CPU the device's memory is the host's
        self.models = ModelStore(
            self._load, settings.get_int("engine_models"), self.runner.forget, self._load_vae, parking
        )
        self._interrogators = Interrogators(data, self.device)
        self._translator = Translator(data)
        self._checker = SafetyChecker(data, self.device) if settings.get_bool("safety_checker") else None
        self.runner.kept_elsewhere += [
            self.models.drop_unused,
            self.studio.control_store.forget,
            self.studio.memory.clear,
            self._interrogators.forget,
            self._translator.forget,
            *([self._checker.forget] if self._checker else []),
        ]
        self._settings = settings
        self._room = settings.get_int("engine_memory_mb") * 2**20
        self.engine = Engine(
            self.runner,
            self.models,
            emit,
            make_plan=self._plan,
            measure=self._measure,
            limits=Limits(
                rows=settings.get_int("engine_rows"),
                denoise_budget=settings.get_int("engine_denoise_budget"),
                decode_budget=settings.get_int("engine_decode_budget"),
                gain=settings.get_float("engine_gain"),
                seconds=settings.get_float("engine_step_ms") / 1000,
            ),
            pictures=settings.get_int("engine_pictures"),
            preview_seconds=settings.get_float("preview_seconds"),
            free=lambda: self._room or free_memory(self.device),
            seen=self._checker.seen if self._checker else None,
        )

    def _compiled(self, data: Path, settings: Settings) -> CompiledNetworks:
        if settings.get_str("engine_compiled") == "off":
            return CompiledNetworks(None)
        store = Store(roots(data, settings), self.facts.fingerprint)
        buckets = self.device_class.buckets
        graphs = Graphs(buckets, CudaRecorder()) if self.device.type == "cuda" and buckets else None
        return CompiledNetworks(store, graphs)

    def tend(self) -> None:
        """Between two steps: compiled code that has come is put in place."""
        self.runner.compiled.tend(self.models.models(), [one.module for one in self.models.vaes()])

    def _measure(self, request: GenerateRequest) -> Extent:
        if self._checker is not None:
            self._checker.present()
        check_limits(request, self._settings)
        return measure(request)

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
        found = {**self.engine.counters, **gauges.machine(), **gauges.device(self.device)}
        found["models"] = len(self.models.models())
        found["compiled_forwards"] = self.runner.compiled.forwards
        found["compiled_vae_runs"] = self.runner.compiled.vaes.runs
        return found | gauges.allocator(self.device)

    def interrogate(self, message: Message, emit: Emit) -> None:
        """Look at a picture in a thread beside the engine's, and tell what is in it; on the CPU where the device is full."""
        job = str(message.body.get("job", ""))

        def look() -> Message:
            image = self.studio.image(str(message.body["image"]))
            name, manner = str(message.body["model"]), Manner(**message.body["manner"])
            return Message({"event": "caption", "job": job, "text": self._asked(image, name, manner)})

        _aside(job, look, emit)

    def _asked(self, image: Image, name: str, manner: Manner) -> str:
        try:
            return self._interrogators.ask(image, name, manner)
        except RuntimeError as error:
            if not memory.is_out_of_memory(error):
                raise
        return Interrogators(self.studio.data).ask(image, name, manner)

    def detect(self, message: Message, emit: Emit) -> None:
        """Make a control map in a thread beside the engine's, and tell it."""
        _aside(str(message.body.get("job", "")), lambda: detected(self.studio, message.body), emit)

    def translate(self, message: Message, emit: Emit) -> None:
        """Translate texts in a thread beside the engine's, and tell them."""
        job, texts = str(message.body.get("job", "")), [str(one) for one in message.body.get("texts", [])]

        def look() -> Message:
            return Message({"event": "translation", "job": job, "texts": self._translator.translate(texts)})

        _aside(job, look, emit)

    def _load(self, checkpoint: Checkpoint) -> Model:
        model = load(checkpoint, self.device, self.dtype, self.library.sha256_of)
        model.unet, model.vae = (device.prepared(network, self.device_class) for network in (model.unet, model.vae))
        return model

    def _load_vae(self, path: Path, model: Model) -> ExternalVae:
        vae = load_vae(path, model, self.library.sha256_of)
        device.prepared(vae.module, self.device_class)
        return vae

    def _plan(self, request: GenerateRequest, index: int, track: Track) -> Plan:
        return plan(request, index, self.studio.fresh(), track)


def _aside(job: str, look: Callable[[], Message], emit: Emit) -> None:
    """Run `look` in a thread of its own and tell its message, or why there is none."""

    def tell(done: Future[Message]) -> None:
        error = done.exception()
        if error is None:
            emit(done.result())
            return
        named = error if isinstance(error, DanqingError) else DanqingError("internal", reference=str(error)[:200])
        emit(Message({"event": "failed", "job": job, "error": named.as_dict()}))

    work(look).add_done_callback(tell)


WARM_UP = "warm-up"
"""Id of the engine's own first job; its messages go nowhere."""
