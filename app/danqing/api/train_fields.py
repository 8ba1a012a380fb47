"""The body of a training for /v1, and how a training is told."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from danqing.api.context import Context
from danqing.api.webhooks import Hooked
from danqing.jobs.model import JobView
from danqing.train.recipe import TrainRequest, parsed, preset

TRAIN: dict[str, Any] = {"kind": "train", "method": "lora", "name": "zqx", "data": "my pictures", "preset": "t4"}

OURS = ("kind", "preset", *Hooked.model_fields)
"""Fields of the body that are none of the recipe."""


class TrainJob(TrainRequest, Hooked):
    """Train on pictures. `data` names one of the caller's data sets; fields that are given go over those of `preset`."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [TRAIN]})

    kind: Literal["train"]
    preset: Annotated[Literal["t4", "a10g", "cpu-mini"] | None, Field(description="Fields that suit a machine.")] = None


def recipe_of(fields: TrainJob, context: Context, owner: str) -> TrainRequest:
    """The recipe, its data resolved for its owner. Reads the disk, and so belongs into a thread.

    Raises:
        DanqingError: `train_data_unknown`, `invalid_field`.
    """
    values: dict[str, Any] = {"share": context.settings.get_float("train_share")}
    values |= preset(fields.preset, fields.method) if fields.preset else {}
    values |= {name: getattr(fields, name) for name in fields.model_fields_set if name not in OURS}
    values["data"] = str(context.service.training.datasets.resolve(owner, fields.data))
    return parsed(values)


def training_told(view: JobView) -> dict[str, Any]:
    """What /v1 tells of a training beside what it tells of every job."""
    told = {"name": view.job.request.prompt, "step": view.step, "steps": view.steps, "loss": view.loss}
    return {"training": {**told, "paused": view.paused}}
