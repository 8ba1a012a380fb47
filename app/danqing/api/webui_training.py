"""create/embedding, create/hypernetwork, train/embedding and train/hypernetwork, as the WebUI names their fields.

The WebUI writes a file and then trains it in place. Here a result appears when it is finished and is never overwritten, so
`create` keeps what the training of that name is to begin with, and `train` trains it: a job like any other.
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from danqing.api.context import Context
from danqing.api.errors import SafeJson
from danqing.api.fields import example
from danqing.api.lists import Route
from danqing.api.tokens import TRAIN
from danqing.api.waiting import unless_stopping
from danqing.errors import DanqingError
from danqing.library.whole import replace_whole
from danqing.train.folder import targets, write_error
from danqing.train.recipe import TrainRequest, parsed

TEMPLATES: Mapping[str, str] = {
    "none.txt": "[filewords]",
    "subject.txt": "a photo of [name]\na picture of [name]\na close-up of [name]\n[name] in front of a plain background",
    "subject_filewords.txt": "a photo of [name], [filewords]\na picture of [name], [filewords]",
    "style.txt": "a painting in the style of [name]\na picture in the style of [name]\na drawing, [name]",
    "style_filewords.txt": "a painting of [filewords], in the style of [name]\na picture of [filewords], [name]",
    "hypernetwork.txt": "a photo of a [filewords]\na picture of a [filewords]\n[filewords]",
}
"""Prompt templates by the WebUI's file names."""

NOT_DONE = ("use_weight", "tag_drop_out")
"""Fields that would change the result and are not obeyed: anything but nothing is refused."""

Whole = Annotated[int, Field(ge=1, le=1_000_000)]


class NewEmbedding(BaseModel):
    """Body of POST create/embedding."""

    model_config = example({"name": "zqx", "num_vectors_per_token": 2, "init_text": "star"})

    name: str
    num_vectors_per_token: int = 1
    overwrite_old: bool = False
    init_text: str = "*"


class NewHypernetwork(BaseModel):
    """Body of POST create/hypernetwork."""

    model_config = example({"name": "zqx", "layer_structure": [1, 2, 1], "activation_func": "linear"})

    name: str
    enable_sizes: list[int | str] = []
    overwrite_old: bool = False
    layer_structure: list[float] | str | None = None
    activation_func: str | None = None
    weight_init: str | None = None
    add_layer_norm: bool = False
    use_dropout: bool = False
    dropout_structure: list[float] | str | None = None


class WebuiTraining(BaseModel):
    """Body of POST train/embedding and train/hypernetwork. Fields that only say where logs go are not needed here."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [{"embedding_name": "zqx", "data_root": "my pictures", "steps": 100, "learn_rate": "0.005"}]
        },
    )

    embedding_name: str = ""
    hypernetwork_name: str = ""
    learn_rate: str | float = 0.005
    batch_size: Whole = 1
    gradient_step: Whole = 1
    data_root: str = ""
    training_width: Annotated[int, Field(ge=64, le=2048)] = 512
    training_height: Annotated[int, Field(ge=64, le=2048)] = 512
    varsize: bool = False
    steps: Whole = 1000
    clip_grad_mode: str = "disabled"
    clip_grad_value: str | float = 0.1
    shuffle_tags: bool = False
    tag_drop_out: float = 0
    use_weight: bool = False
    create_image_every: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    template_filename: str = "subject.txt"
    preview_from_txt2img: bool = False
    preview_prompt: str = ""
    preview_negative_prompt: str = ""
    preview_steps: int = 20
    preview_cfg_scale: float = 7.0
    preview_seed: int = 0


class TrainingDoors:
    """The four routes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._writing = threading.Lock()

    def routes(self) -> dict[str, Route]:
        """Handlers of POST by path."""
        return {
            "/create/embedding": self.create_embedding,
            "/create/hypernetwork": self.create_hypernetwork,
            "/train/embedding": self.train_embedding,
            "/train/hypernetwork": self.train_hypernetwork,
        }

    async def create_embedding(self, request: Request, body: NewEmbedding) -> Response:
        """Keep what the embedding of this name is to begin with."""
        return await self._create(request, "embedding", body.name, embedding_fields(body))

    async def create_hypernetwork(self, request: Request, body: NewHypernetwork) -> Response:
        """Keep how the hypernetwork of this name is to be built."""
        return await self._create(request, "hypernetwork", body.name, hypernetwork_fields(body))

    async def train_embedding(self, request: Request, body: WebuiTraining) -> Response:
        """Train an embedding, and answer when it is done. The training goes on when the client leaves."""
        return await self._train(request, "embedding", body.embedding_name, body)

    async def train_hypernetwork(self, request: Request, body: WebuiTraining) -> Response:
        """The same for a hypernetwork."""
        return await self._train(request, "hypernetwork", body.hypernetwork_name, body)

    async def _create(self, request: Request, kind: str, name: str, fields: dict[str, Any]) -> Response:
        self._context.require(request, TRAIN)
        owner = self._context.owner(request)
        path = await asyncio.to_thread(self._keep, owner, kind, name, fields)
        return SafeJson({"info": f"create {kind} filename: {path}"})

    def _keep(self, owner: str, kind: str, name: str, fields: dict[str, Any]) -> str:
        wanted = parsed({"name": name, **fields})
        data = self._context.service.data
        target = targets(data, wanted)[0]
        if target.exists():
            raise DanqingError("train_name_taken", path=target.relative_to(data).as_posix())
        path = data / "training" / "created.json"
        with self._writing:
            kept = self._kept()
            kept[f"{owner}/{kind}/{name}"] = fields
            try:
                replace_whole(path, json.dumps(kept, ensure_ascii=False).encode())
            except OSError as error:
                raise write_error(path, error) from None
        return target.relative_to(data).as_posix()

    def _kept(self) -> dict[str, Any]:
        try:
            found = json.loads((self._context.service.data / "training" / "created.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    async def _train(self, request: Request, kind: str, name: str, body: WebuiTraining) -> Response:
        context = self._context
        context.require(request, TRAIN)
        owner, client = context.owner(request), context.client(request)
        wanted = await asyncio.to_thread(self._recipe, owner, client, kind, name, body)
        job = await context.service.training.submit(wanted, owner=owner, client=client)
        done = await unless_stopping(context, context.service.wait(job.id))
        if done.error is not None:
            raise done.error
        result = await asyncio.to_thread(context.service.training.folder(job.id).result) or {}
        files = ", ".join(str(file.get("path")) for file in result.get("files", []))
        return SafeJson({"info": f"train {kind} complete: filename: {files} error: None"})

    def _recipe(self, owner: str, client: str, kind: str, name: str, body: WebuiTraining) -> TrainRequest:
        context = self._context
        method = {"embedding": "textual_inversion", "hypernetwork": "hypernetwork"}[kind]
        fields = {"method": method, **self._kept().get(f"{owner}/{kind}/{name}", {})}
        own = str(context.options.of(client)["sd_model_checkpoint"] or "")
        more = {"model": own, "share": context.settings.get_float("train_share")}
        data = context.service.training.datasets.resolve(owner, body.data_root)
        return parsed({**fields, **more, **training_fields(body, name), "name": name, "data": str(data)})


def embedding_fields(body: NewEmbedding) -> dict[str, Any]:
    """Fields of the recipe."""
    return {"method": "textual_inversion", "vectors": body.num_vectors_per_token, "initial_text": body.init_text}


def hypernetwork_fields(body: NewHypernetwork) -> dict[str, Any]:
    """Fields of the recipe.

    Raises:
        DanqingError: `invalid_field`, for a structure that does not read.
    """
    found: dict[str, Any] = {"method": "hypernetwork", "hypernetwork_layer_norm": body.add_layer_norm}
    if body.layer_structure:
        found["hypernetwork_layers"] = _numbers("layer_structure", body.layer_structure)
    if body.activation_func:
        found["hypernetwork_activation"] = body.activation_func
    if body.weight_init:
        found["hypernetwork_initialization"] = body.weight_init
    if body.enable_sizes:
        found["hypernetwork_sizes"] = [int(size) for size in _numbers("enable_sizes", body.enable_sizes)]
    if body.use_dropout:
        shares = set(_numbers("dropout_structure", body.dropout_structure or [0.3])) - {0.0}
        if len(shares) > 1:
            raise DanqingError("not_available", feature="dropout_structure of several values")
        found["hypernetwork_dropout"] = max(shares, default=0.0)
    return found


def _numbers(field: str, value: list[Any] | str) -> list[float]:
    try:
        return [float(one) for one in (value.split(",") if isinstance(value, str) else value)]
    except (ValueError, TypeError):
        raise DanqingError("invalid_field", field=field, reason="numbers, such as 1, 2, 1") from None


def training_fields(body: WebuiTraining, name: str) -> dict[str, Any]:
    """Fields of the recipe.

    Raises:
        DanqingError: `invalid_field`, `not_available`.
    """
    for field in NOT_DONE:
        if getattr(body, field):
            raise DanqingError("not_available", feature=field)
    if body.template_filename not in TEMPLATES:
        raise DanqingError("invalid_field", field="template_filename", reason="one of " + ", ".join(TEMPLATES))
    side = round(math.sqrt(body.training_width * body.training_height) / 8) * 8
    prompts = [body.preview_prompt] if body.preview_from_txt2img and body.preview_prompt else [f"a photo of {name}"]
    return {
        "batch_size": body.batch_size,
        "gradient_accumulation": body.gradient_step,
        "steps": body.steps,
        "resolution": side,
        "buckets": body.varsize or body.training_width != body.training_height,
        "shuffle_tags": body.shuffle_tags,
        "max_grad_norm": _clip(body),
        "template": TEMPLATES[body.template_filename],
        "sample_every": body.create_image_every,
        "sample_prompts": prompts,
        "sample_negative": body.preview_negative_prompt if body.preview_from_txt2img else "",
        "sample_steps": body.preview_steps,
        "sample_guidance": body.preview_cfg_scale,
        "weight_decay": 0.0,
        **rates(str(body.learn_rate)),
    }


def _clip(body: WebuiTraining) -> float:
    if body.clip_grad_mode == "disabled":
        return 0.0
    if body.clip_grad_mode != "norm":
        raise DanqingError("not_available", feature=f"clip_grad_mode {body.clip_grad_mode[:40]}")
    return _rates(str(body.clip_grad_value), "clip_grad_value", 1000)[0][0]


def rates(text: str) -> dict[str, Any]:
    """The WebUI's learning rate, "0.005" or "0.005:100, 0.001:1000" (a rate, and until which step), as fields of the recipe.

    Raises:
        DanqingError: `invalid_field`.
    """
    rows = _rates(text)
    most = max(rate for rate, _ in rows)
    if len(rows) == 1 or not most:
        return {"learning_rate": most}
    pieces = [f"{rate / most:g}:{until}" for rate, until in rows[:-1]] + [f"{rows[-1][0] / most:g}"]
    return {"learning_rate": most, "schedule": "piecewise_constant", "rate_rules": ",".join(pieces)}


def _rates(text: str, field: str = "learn_rate", most: float = 10) -> list[tuple[float, int]]:
    found = []
    for piece in text.split(","):
        rate, _, until = piece.partition(":")
        try:
            found.append((float(rate), int(until or 0)))
        except ValueError:
            raise DanqingError("invalid_field", field=field, reason="0.005 or 0.005:100, 0.001:1000") from None
    if any(not math.isfinite(rate) or not 0 <= rate <= most for rate, _ in found):
        raise DanqingError("invalid_field", field=field, reason=f"0 to {most:g}")
    if any(until < 1 for _, until in found[:-1]):
        raise DanqingError("invalid_field", field=field, reason="steps from 1 on, such as 0.005:100, 0.001:1000")
    return found
