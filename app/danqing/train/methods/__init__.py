"""The methods: what each trains of a checkpoint, and the file that comes of it."""

from __future__ import annotations

from collections.abc import Callable

from danqing.train.methods.base import Method
from danqing.train.methods.dreambooth import DreamBooth
from danqing.train.methods.hypernetwork import Hypernetwork
from danqing.train.methods.lora import Lora
from danqing.train.methods.textual_inversion import TextualInversion
from danqing.train.networks import Networks
from danqing.train.recipe import TrainRequest

METHODS: dict[str, Callable[[TrainRequest, Networks], Method]] = {
    "textual_inversion": TextualInversion,
    "lora": Lora,
    "dreambooth": DreamBooth,
    "dreambooth_lora": Lora,
    "hypernetwork": Hypernetwork,
}
