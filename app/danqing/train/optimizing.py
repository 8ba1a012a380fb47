"""Optimizer, schedule, loss scaling and running mean of what a method trains."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from danqing.errors import DanqingError
from danqing.train.methods.base import Method
from danqing.train.recipe import TrainRequest, check_optimizer


def optimizer_of(recipe: TrainRequest, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """
    Raises:
        DanqingError: `train_needs`, for 8-bit Adam without bitsandbytes.
    """
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
    check_optimizer(recipe)
    module = importlib.import_module("bitsandbytes.optim")
    found: torch.optim.Optimizer = module.AdamW8bit(groups, weight_decay=recipe.weight_decay)
    return found


class Optimizing:
    """One optimizer step after another, and everything that must be kept between them."""

    def __init__(self, method: Method, device: torch.device) -> None:
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import EMAModel

        recipe = method.recipe
        self._recipe, self._parameters = recipe, list(method.trained.values())
        self.optimizer = optimizer_of(recipe, method.groups())
        try:
            self.schedule = get_scheduler(
                recipe.schedule,
                self.optimizer,
                step_rules=recipe.rate_rules or None,
                num_warmup_steps=recipe.warmup,
                num_training_steps=recipe.steps,
            )
        except (ValueError, IndexError, AttributeError, TypeError) as error:
            raise DanqingError("invalid_field", field="rate_rules", reason=str(error)[:200]) from None
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
        self.mean = EMAModel(self._parameters, decay=recipe.ema, use_ema_warmup=True) if recipe.ema else None

    @property
    def rate(self) -> float:
        """The learning rate of the first group."""
        return float(self.optimizer.param_groups[0]["lr"])

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of a loss."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self) -> None:
        """Change what is trained by the gradients, and forget them."""
        if all(parameter.grad is None for parameter in self._parameters):
            return self.schedule.step()  # type: ignore[no-any-return] # every caption of the step was dropped
        if self._recipe.max_grad_norm:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self._parameters, self._recipe.max_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.mean is not None:
            self.mean.step(self._parameters)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the context the running mean stands in the place of what is trained."""
        if self.mean is None:
            yield
            return
        self.mean.store(self._parameters)
        self.mean.copy_to(self._parameters)
        try:
            yield
        finally:
            self.mean.restore(self._parameters)

    def state(self) -> dict[str, Any]:
        """All of it, for `load`."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "mean": self.mean.state_dict() if self.mean is not None else None,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        if self.mean is not None:
            self.mean.load_state_dict(state["mean"])
            self.mean.to(self._parameters[0].device)
