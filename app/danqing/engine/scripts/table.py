"""The scripts by the titles and arguments that clients know (spec 18). No torch: the API and the page read this table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from danqing.errors import DanqingError
from danqing.plugins import Box, Script
from danqing.plugins.loading import active

SIDES = ("left", "right", "up", "down")
FILLS = ("fill", "original", "latent noise", "latent nothing")
CURVES = ("Aggressive", "Linear", "Lazy")

TRUTHS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off", "none", ""), False),
}


def truth(value: Any, field: str) -> bool:
    """A switch as programs send it: true, 1 or a word; "false" means what it says.

    Raises:
        DanqingError: `invalid_field`.
    """
    found = TRUTHS.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(found, bool | int | float):
        raise DanqingError("invalid_field", field=field, reason="true or false")
    return bool(found)


@dataclass(frozen=True, slots=True)
class Arg:
    """An argument. `name` "" is a place that clients fill and nobody reads (a piece of the page's text)."""

    name: str
    label: str
    default: Any
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] | None = None

    def read(self, value: Any) -> Any:
        """`value` in the type of the default.

        Raises:
            DanqingError: `invalid_field`, `out_of_range`.
        """
        if value is None:
            return self.default
        kind = type(self.default)
        try:
            if kind is bool:
                value = truth(value, self.label or self.name)
            elif kind in (int, float):
                value = kind(float(value))
            elif kind is str:
                value = self._chosen(value)
            elif kind is tuple:
                value = tuple(self._chosen(one) for one in ([value] if isinstance(value, str) else value))
        except (TypeError, ValueError, IndexError, OverflowError):
            raise DanqingError("invalid_field", field=self.label or self.name, reason=str(value)[:100]) from None
        if self.minimum is not None and self.maximum is not None and not self.minimum <= value <= self.maximum:
            raise DanqingError(
                "out_of_range", field=self.label, value=value, minimum=self.minimum, maximum=self.maximum
            )
        return value

    def _chosen(self, value: Any) -> str:
        """A text; where there are choices one of them, by its number or by its name in any case."""
        if self.choices is None:
            return str(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not (value == int(value) and 0 <= value < len(self.choices)):
                raise ValueError(value)
            return self.choices[int(value)]
        found = next((one for one in self.choices if one.lower() == str(value).lower()), None)
        if found is None:
            wanted = "one of " + ", ".join(self.choices)
            raise DanqingError("invalid_field", field=self.label or self.name, reason=wanted)
        return found


@dataclass(frozen=True, slots=True)
class ScriptRow:
    """A script. `tabs`: where it can be chosen, "txt2img", "img2img"."""

    title: str
    tabs: tuple[str, ...]
    args: tuple[Arg, ...]

    @property
    def name(self) -> str:
        """As the API lists it."""
        return self.title.lower()

    def named(self, values: Sequence[Any]) -> dict[str, Any]:
        """Arguments by name, from a list in the page's order; what is not given keeps its default.

        Raises:
            DanqingError: `invalid_field`, `out_of_range`.
        """
        given = [*values[: len(self.args)], *[None] * (len(self.args) - len(values))]
        return {arg.name: arg.read(value) for arg, value in zip(self.args, given, strict=True) if arg.name}


BOTH = ("txt2img", "img2img")
IMAGE = ("img2img",)


def _margins() -> Arg:
    return Arg("margin_size", "Grid margins (px)", 0, 0, 500, 2)


def _axis(letter: str, first: str) -> tuple[Arg, ...]:
    low = letter.lower()
    return (
        Arg(f"{low}_type", f"{letter} type", first),
        Arg(f"{low}_values", f"{letter} values", ""),
        Arg(f"{low}_dropdown", f"{letter} values", ()),
    )


SCRIPTS: tuple[ScriptRow, ...] = (
    ScriptRow(
        "img2img alternative test",
        IMAGE,
        (
            Arg("", "", "* `CFG Scale` should be 2 or lower."),
            Arg("override_sampler", "Override `Sampling method` to Euler?(this method is built for it)", True),
            Arg(
                "override_prompt",
                "Override `prompt` to the same value as `original prompt`?(and `negative prompt`)",
                True,
            ),
            Arg("original_prompt", "Original prompt", ""),
            Arg("original_negative_prompt", "Original negative prompt", ""),
            Arg("override_steps", "Override `Sampling Steps` to the same value as `Decode steps`?", True),
            Arg("decode_steps", "Decode steps", 50, 1, 150, 1),
            Arg("override_strength", "Override `Denoising strength` to 1?", True),
            Arg("cfg", "Decode CFG scale", 1.0, 0.0, 15.0, 0.1),
            Arg("randomness", "Randomness", 0.0, 0.0, 1.0, 0.01),
            Arg("sigma_adjustment", "Sigma adjustment for finding noise for image", False),
        ),
    ),
    ScriptRow(
        "Loopback",
        IMAGE,
        (
            Arg("loops", "Loops", 4, 1, 32, 1),
            Arg("final_denoising_strength", "Final denoising strength", 0.5, 0, 1, 0.01),
            Arg("curve", "Denoising strength curve", "Linear", choices=CURVES),
            Arg(
                "append_interrogation",
                "Append interrogated prompt at each iteration",
                "None",
                choices=("None", "CLIP", "DeepBooru"),
            ),
        ),
    ),
    ScriptRow(
        "Outpainting mk2",
        IMAGE,
        (
            Arg("", "", ""),
            Arg("pixels", "Pixels to expand", 128, 8, 256, 8),
            Arg("mask_blur", "Mask blur", 8, 0, 64, 1),
            Arg("direction", "Outpainting direction", SIDES, choices=SIDES),
            Arg("noise_q", "Fall-off exponent (lower=higher detail)", 1.0, 0.0, 4.0, 0.01),
            Arg("color_variation", "Color variation", 0.05, 0.0, 1.0, 0.01),
        ),
    ),
    ScriptRow(
        "Poor man's outpainting",
        IMAGE,
        (
            Arg("pixels", "Pixels to expand", 128, 8, 256, 8),
            Arg("mask_blur", "Mask blur", 4, 0, 64, 1),
            Arg("inpainting_fill", "Masked content", "fill", choices=FILLS),
            Arg("direction", "Outpainting direction", SIDES, choices=SIDES),
        ),
    ),
    ScriptRow(
        "Prompt matrix",
        BOTH,
        (
            Arg("put_at_start", "Put variable parts at start of prompt", False),
            Arg("different_seeds", "Use different seed for each picture", False),
            Arg("prompt_type", "Select prompt", "positive", choices=("positive", "negative")),
            Arg("delimiter", "Select joining char", "comma", choices=("comma", "space")),
            _margins(),
        ),
    ),
    ScriptRow(
        "Prompts from file or textbox",
        BOTH,
        (
            Arg("iterate_seed", "Iterate seed every line", False),
            Arg("same_random_seed", "Use same random seed for all lines", False),
            Arg("position", "Insert prompts at the", "start", choices=("start", "end")),
            Arg("prompt_txt", "List of prompt inputs", ""),
        ),
    ),
    ScriptRow(
        "SD upscale",
        IMAGE,
        (
            Arg("", "", ""),
            Arg("overlap", "Tile overlap", 64, 0, 256, 16),
            Arg("upscaler", "Upscaler", "None"),
            Arg("scale", "Scale Factor", 2.0, 1.0, 4.0, 0.05),
        ),
    ),
    ScriptRow(
        "X/Y/Z plot",
        BOTH,
        (
            *_axis("X", "Seed"),
            *_axis("Y", "Nothing"),
            *_axis("Z", "Nothing"),
            Arg("draw_legend", "Draw legend", True),
            Arg("include_lone_images", "Include Sub Images", False),
            Arg("include_sub_grids", "Include Sub Grids", False),
            Arg("no_fixed_seeds", "Keep -1 for seeds", False),
            Arg("vary_seeds_x", "Vary seeds for X", False),
            Arg("vary_seeds_y", "Vary seeds for Y", False),
            Arg("vary_seeds_z", "Vary seeds for Z", False),
            _margins(),
            Arg("csv_mode", "Use text inputs instead of dropdowns", False),
        ),
    ),
)


ALWAYS_ON: tuple[ScriptRow, ...] = (
    ScriptRow("Extra options", BOTH, ()),
    ScriptRow(
        "Soft inpainting",
        IMAGE,
        (
            Arg("enabled", "Soft inpainting", False),
            Arg("power", "Schedule bias", 1, 0, 8, 0.1),
            Arg("scale", "Preservation strength", 0.5, 0, 8, 0.05),
            Arg("detail", "Transition contrast boost", 4, 1, 32, 0.5),
            Arg("mask_influence", "Mask influence", 0, 0, 1, 0.05),
            Arg("difference_threshold", "Difference threshold", 0.5, 0, 8, 0.25),
            Arg("difference_contrast", "Difference contrast", 2, 0, 8, 0.25),
        ),
    ),
    ScriptRow(
        "Refiner",
        BOTH,
        (
            Arg("enabled", "Refiner", False),
            Arg("checkpoint", "Checkpoint", ""),
            Arg("switch_at", "Switch at", 0.8, 0.01, 1.0, 0.01),
        ),
    ),
    ScriptRow(
        "Sampler",
        BOTH,
        (
            Arg("steps", "Sampling steps", 20, 1, 150, 1),
            Arg("sampler", "Sampling method", "DPM++ 2M"),
            Arg("scheduler", "Schedule type", "Automatic"),
        ),
    ),
    ScriptRow(
        "Seed",
        BOTH,
        (
            Arg("seed", "Seed", -1),
            Arg("extra", "Extra", False),
            Arg("subseed", "Variation seed", -1),
            Arg("subseed_strength", "Variation strength", 0.0, 0, 1, 0.01),
            Arg("seed_resize_from_w", "Resize seed from width", 0, 0, 2048, 8),
            Arg("seed_resize_from_h", "Resize seed from height", 0, 0, 2048, 8),
        ),
    ),
    ScriptRow("ControlNet", BOTH, ()),
)
"""Scripts that run with every request. Of these the API obeys soft inpainting and ControlNet, whose arguments are units and
not in this table; the request's own fields say the rest."""


def of_plugins(always_on: bool) -> tuple[ScriptRow, ...]:
    """The scripts of plug-ins."""
    taken = {row.name for row in (*SCRIPTS, *ALWAYS_ON)}
    return tuple(row for row in map(_row_of, active().scripts(always_on)) if row.name not in taken)


def _row_of(script: Script) -> ScriptRow:
    return ScriptRow(script.name, script.tabs, tuple(_arg_of(box) for box in script.boxes))


def _arg_of(box: Box) -> Arg:
    return Arg(box.name, box.en, box.default, box.minimum, box.maximum, box.step, box.choices or None)


def selectable() -> tuple[ScriptRow, ...]:
    """Ours, then those of plug-ins."""
    return SCRIPTS + of_plugins(False)


def always_on() -> tuple[ScriptRow, ...]:
    """Ours, then those of plug-ins."""
    return ALWAYS_ON + of_plugins(True)


def find(title: str, tab: str) -> ScriptRow | None:
    """The script of this title, in any case, on a tab."""
    return next((row for row in selectable() if row.name == title.lower() and tab in row.tabs), None)


def by_name(name: str) -> ScriptRow:
    """
    Raises:
        DanqingError: `unknown_script`.
    """
    row = next((row for row in selectable() if row.name == name.lower()), None)
    if row is None:
        raise DanqingError("unknown_script", name=name[:100], known=", ".join(row.title for row in selectable()))
    return row
