"""What a training is to do: one frozen request, checked once, and presets by machine and method. No torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from danqing.errors import DanqingError

Method = Literal["textual_inversion", "lora", "dreambooth", "dreambooth_lora", "hypernetwork"]
METHODS: tuple[Method, ...] = ("textual_inversion", "lora", "dreambooth", "dreambooth_lora", "hypernetwork")

Schedule = Literal[
    "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial", "piecewise_constant"
]
"""diffusers' names of learning rate schedules; "piecewise_constant" follows `rate_rules`."""

Precision = Literal["fp32", "fp16", "bf16"]
Optimizer = Literal["adamw", "adamw8bit"]
CaptionSource = Literal["sidecar", "filename", "template"]
PriorTarget = Literal["noise", "model"]

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]

ACTIVATIONS = (
    *("linear", "relu", "leakyrelu", "elu", "swish", "tanh", "sigmoid", "celu", "gelu", "hardshrink", "hardsigmoid"),
    *(
        "hardswish",
        "hardtanh",
        "logsigmoid",
        "logsoftmax",
        "mish",
        "prelu",
        "rrelu",
        "relu6",
        "selu",
        "silu",
        "softmax",
    ),
    *("softmin", "softplus", "softshrink", "softsign", "tanhshrink"),
)
"""Of hypernetworks, by the WebUI's names."""

Initialization = Literal["Normal", "KaimingUniform", "KaimingNormal", "XavierUniform", "XavierNormal"]

RULES = re.compile(r"(?:[\d.]+(?:e[+-]?\d+)?:\d+,)*[\d.]+(?:e[+-]?\d+)?")
"""Rates as diffusers reads them: factor:until, …, factor."""

NAME = re.compile(r"[^\W_][\w .()+-]{0,98}")
"""Letters and digits of any script, then also spaces, dots, brackets, plus and minus signs: no path can be made of it."""

NAME_BYTES = 200
"""Bytes of a name, of which a Chinese character has three. File systems take 255, endings and temporary names included."""

SIDE = 8
"""Pixels a latent: resolutions are multiples of it."""


class TrainRequest(BaseModel):
    """A training, as every door builds it. Rates are per optimizer step; pixels are of the prepared pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method
    name: Annotated[str, Field(min_length=1, max_length=99)]
    """The result's file name without its ending."""
    model: Annotated[str, Field(max_length=500)] = ""
    """A checkpoint by title, name or hash; "" is the default one."""
    data: Annotated[str, Field(max_length=4000)] = ""
    """A folder or a zip of pictures, resolved for its owner."""

    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    batch_size: Annotated[int, Field(ge=1, le=256)] = 1
    gradient_accumulation: Annotated[int, Field(ge=1, le=256)] = 1
    learning_rate: Rate = 1e-4
    text_encoder_learning_rate: Rate = 0.0
    """Of the text encoder where that is trained; 0 is half of `learning_rate`."""
    lr_plus_ratio: Annotated[float, Field(ge=1, le=64, allow_inf_nan=False)] = 1.0
    """LoRA+ (Hayou et al. 2024, https://arxiv.org/abs/2402.12354): the up matrices' rate over the down matrices'."""
    schedule: Schedule = "constant"
    rate_rules: Annotated[str, Field(max_length=400, validate_default=True)] = ""
    """For "piecewise_constant", as diffusers reads them: "1:100,0.1" is the rate, from 100 on a tenth of it."""
    warmup: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    weight_decay: Share = 0.01
    max_grad_norm: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 1.0
    """Gradients longer than this are shortened to it; 0 leaves them."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    alpha: Annotated[float, Field(ge=0, le=4096, allow_inf_nan=False)] = 0.0
    """Of LoRA; 0 is the rank."""
    conv_rank: Annotated[int, Field(ge=0, le=1024)] = 0
    """Rank on the 3x3 convolutions; 0 leaves them alone."""
    train_text_encoder: bool = False

    vectors: Annotated[int, Field(ge=1, le=75)] = 1
    initial_text: Annotated[str, Field(max_length=2000)] = "*"

    hypernetwork_layers: Annotated[
        tuple[Annotated[float, Field(gt=0, le=16)], ...], Field(min_length=2, max_length=12)
    ] = (
        1,
        2,
        1,
    )
    """Widths as multiples of the context's; the first and the last are 1."""
    hypernetwork_activation: Annotated[str, Field(max_length=40)] = "linear"
    hypernetwork_initialization: Initialization = "Normal"
    hypernetwork_layer_norm: bool = False
    hypernetwork_dropout: Share = 0.0
    hypernetwork_activate_output: bool = False
    hypernetwork_sizes: Annotated[tuple[Annotated[int, Field(ge=1, le=8192)], ...], Field(max_length=16)] = ()
    """Context widths to train at; () is every width of the model."""

    trigger: Annotated[str, Field(max_length=200)] = ""
    """The word that stands for `[name]` in templates and class prompts; "" is the result's name."""
    caption_source: CaptionSource = "template"
    template: Annotated[str, Field(max_length=20_000)] = "a photo of [name]"
    """One caption a line, one chosen each time. `[name]`: the trigger; `[filewords]`: the picture's own caption or file name."""
    caption_dropout: Share = 0.0
    shuffle_tags: bool = False
    """Parts of a caption between commas come in another order each time; the first one stays."""

    resolution: Annotated[int, Field(ge=0, le=2048, multiple_of=SIDE)] = 0
    """Side of the square whose area the pictures get; 0 is the checkpoint's own."""
    buckets: bool = True
    """Keep each picture's aspect ratio, in steps of 64 pixels (of a quarter of small resolutions); else crop to the square."""
    flip: bool = False
    masks: bool = False
    """`NAME-mask.png` beside a picture says by its grey how much each place counts."""

    class_prompt: Annotated[str, Field(max_length=20_000)] = ""
    """Prior preservation (Ruiz et al. 2022, https://arxiv.org/abs/2208.12242): what the pictures that the model draws itself
    show, one prompt a line, taken in turn."""
    class_pictures: Annotated[int, Field(ge=0, le=10_000)] = 0
    prior_weight: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 1.0
    prior_target: PriorTarget = "noise"
    """What is learned from class pictures: the noise in them, as DreamBooth does, or what the untouched model says of them, which
    holds it closer (Li and Hoiem 2016, https://arxiv.org/abs/1606.09282) at the cost of another forward a step."""

    min_snr_gamma: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.0
    """Hang et al. 2023, https://arxiv.org/abs/2303.09556; 0 weighs all timesteps alike, 5 is the paper's."""
    noise_offset: Share = 0.0
    ema: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    """Decay of the running mean of what is trained, which then becomes the result; 0 is none."""
    precision: Precision = "fp32"
    gradient_checkpointing: bool = False
    optimizer: Optimizer = "adamw"
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0

    sample_every: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    sample_prompts: Annotated[tuple[Annotated[str, Field(max_length=2000)], ...], Field(max_length=8)] = ()
    sample_negative: Annotated[str, Field(max_length=2000)] = ""
    sample_steps: Annotated[int, Field(ge=1, le=150)] = 20
    sample_guidance: Annotated[float, Field(ge=1, le=30, allow_inf_nan=False)] = 7.0
    save_every: Annotated[int, Field(ge=0, le=1_000_000)] = 250
    """Steps from one saved state to the next; 0 saves when paused and at the end only."""
    share: Annotated[float, Field(ge=0.1, le=1, allow_inf_nan=False)] = 0.5
    """Most of the device's time that the training takes while somebody draws."""

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not NAME.fullmatch(name) or name != name.strip() or name.endswith("."):
            raise ValueError("a file name of letters, digits, spaces and .()+-_ that begins with a letter or digit")
        if len(name.encode()) > NAME_BYTES:
            raise ValueError(f"a file name of at most {NAME_BYTES} bytes")
        return name

    @field_validator("rate_rules")
    @classmethod
    def _is_a_schedule(cls, rules: str, info: ValidationInfo) -> str:
        rules = rules.replace(" ", "")
        if info.data.get("schedule") == "piecewise_constant" and not RULES.fullmatch(rules):
            raise ValueError('factors of the rate and until which step, such as "1:100,0.1"')
        return rules

    @field_validator("hypernetwork_activation")
    @classmethod
    def _is_an_activation(cls, name: str) -> str:
        if name.lower() not in ACTIVATIONS:
            raise ValueError(f"there are {', '.join(ACTIVATIONS)}")
        return name.lower()

    @field_validator("hypernetwork_layers")
    @classmethod
    def _leads_back(cls, layers: tuple[float, ...]) -> tuple[float, ...]:
        if layers[0] != 1 or layers[-1] != 1:
            raise ValueError("the first and the last multiple must be 1")
        return layers

    @property
    def word(self) -> str:
        """What stands for the concept in captions."""
        return self.trigger or self.name

    @property
    def samples(self) -> tuple[str, ...]:
        """Prompts of the sample pictures."""
        return self.sample_prompts or ("a photo of [name]",)

    @property
    def is_lora(self) -> bool:
        return self.method in ("lora", "dreambooth_lora")

    @property
    def text_rate(self) -> float:
        """The text encoder's learning rate."""
        return self.text_encoder_learning_rate or self.learning_rate / 2

    def told(self) -> str:
        """As JSON for the result's file, which people pass on: without the place of the data on this machine."""
        return self.model_dump_json(exclude={"data"})

    def digest(self) -> str:
        """sha256 of the recipe: equal recipes, equal digests, also when a later version has more fields."""
        return hashlib.sha256(self.model_dump_json(exclude_defaults=True).encode()).hexdigest()


def parsed(fields: Mapping[str, Any]) -> TrainRequest:
    """The recipe that `fields` describe.

    Raises:
        DanqingError: `invalid_field`, naming the first field that does not fit.
    """
    try:
        return TrainRequest(**dict(fields))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "recipe"
        raise DanqingError("invalid_field", field=where, reason=first["msg"].removeprefix("Value error, ")) from None


def check_model(recipe: TrainRequest, name: str, family: str, in_channels: int, is_folder: bool) -> None:
    """
    Args:
        name: of the checkpoint, whose UNet reads latents of `in_channels`.
        is_folder: it lies in diffusers' layout.

    Raises:
        DanqingError: `train_family`, for what is neither SD 1.x nor 2.x, draws from more than text, or cannot be the result.
    """
    reason = ""
    if recipe.method == "dreambooth" and is_folder:
        reason = "a whole checkpoint is made from a single file only; convert the folder first, or train a LoRA"
    elif family not in ("sd1", "sd2"):
        reason = f"it is of the family {family}; checkpoints of SD 1.x and 2.x can be"
    elif in_channels != 4:
        reason = "it draws from more than a text (inpainting, depth or instruct-pix2pix)"
    if reason:
        raise DanqingError("train_family", name=name, reason=reason)


def check_optimizer(recipe: TrainRequest) -> None:
    """
    Raises:
        DanqingError: `train_needs`, for 8-bit Adam where bitsandbytes is not installed.
    """
    if recipe.optimizer == "adamw8bit" and find_spec("bitsandbytes") is None:
        command = "pip install bitsandbytes"
        raise DanqingError("train_needs", feature="8-bit Adam", wanted="bitsandbytes", command=command)


_SMALL_GPU: dict[str, Any] = {"precision": "fp16", "gradient_checkpointing": True, "min_snr_gamma": 5.0}
_LARGE_GPU: dict[str, Any] = {"precision": "bf16", "min_snr_gamma": 5.0}
_MINI: dict[str, Any] = {"batch_size": 4, "resolution": 128, "noise_offset": 0.1, "sample_guidance": 5.0}
_PRIOR = {"class_prompt": "a photo", "class_pictures": 100}
_HELD = _PRIOR | {"prior_target": "model"}
"""Beside a LoRA the untouched model is there for nothing but its forward."""

PRESETS: dict[str, dict[Method, dict[str, Any]]] = {
    "t4": {
        "textual_inversion": _SMALL_GPU | {"steps": 3000, "learning_rate": 5e-3, "vectors": 4, "weight_decay": 0.0},
        "lora": _SMALL_GPU
        | {"steps": 1500, "rank": 16, "batch_size": 2, "train_text_encoder": True, "schedule": "cosine"},
        "dreambooth": _SMALL_GPU | _PRIOR | {"steps": 800, "learning_rate": 2e-6, "optimizer": "adamw8bit"},
        "dreambooth_lora": _SMALL_GPU | _HELD | {"steps": 1200, "rank": 16, "train_text_encoder": True},
        "hypernetwork": _SMALL_GPU | {"steps": 5000, "learning_rate": 1e-5, "batch_size": 2},
    },
    "a10g": {
        "textual_inversion": _LARGE_GPU
        | {"steps": 3000, "learning_rate": 5e-3, "vectors": 4, "batch_size": 4, "weight_decay": 0.0},
        "lora": _LARGE_GPU
        | {"steps": 1000, "rank": 32, "batch_size": 4, "train_text_encoder": True, "schedule": "cosine"},
        "dreambooth": _LARGE_GPU | _PRIOR | {"steps": 800, "learning_rate": 2e-6, "gradient_checkpointing": True},
        "dreambooth_lora": _LARGE_GPU
        | _HELD
        | {"steps": 1000, "rank": 32, "batch_size": 2, "train_text_encoder": True},
        "hypernetwork": _LARGE_GPU | {"steps": 5000, "learning_rate": 1e-5, "batch_size": 4},
    },
    "cpu-mini": {
        "textual_inversion": _MINI | {"steps": 300, "learning_rate": 2e-2, "vectors": 4, "weight_decay": 0.0},
        "lora": _MINI | {"steps": 300, "learning_rate": 1e-3, "rank": 8},
        "dreambooth": _MINI | {"steps": 200, "learning_rate": 1e-4},
        "dreambooth_lora": _MINI | {"steps": 300, "learning_rate": 1e-3, "rank": 8},
        "hypernetwork": _MINI | {"steps": 300, "learning_rate": 1e-3},
    },
}
"""Machine → method → fields of a `TrainRequest`. "t4" has 16 GB, "a10g" 24 GB; "cpu-mini" is danqing-mini on a CPU."""


def preset(machine: str, method: Method) -> dict[str, Any]:
    """The fields that suit a machine ("t4", "a10g", "cpu-mini").

    Raises:
        DanqingError: `invalid_field`, for a machine or a method without a preset.
    """
    found = PRESETS.get(machine, {}).get(method)
    if found is None:
        raise DanqingError("invalid_field", field="preset", reason=f"there are {', '.join(PRESETS)}, each by method")
    return dict(found)
