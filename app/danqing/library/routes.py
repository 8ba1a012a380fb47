"""Where every tensor of a model on disk goes: part ("unet", "vae", "text0", "text1") and the parameters that it fills.

No torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from danqing.library.architecture import Architecture
from danqing.library.keys import UNET, VAE, Route, clip_routes, ema_name, open_clip_routes, unet_name, vae_name
from danqing.library.shapes import TextShape, VaeShape
from danqing.library.weights import Weights


class Destination(NamedTuple):
    """A part of the model, and a parameter of it."""

    part: str
    route: Route


Routes = dict[str, tuple[Destination, ...]]
"""By the tensor's name in the model; names that nothing is read from are left out."""


def routes_of(weights: Weights, architecture: Architecture) -> Routes:
    """The routes of every tensor of a checkpoint file or a folder."""
    folder = bool(weights.configs)
    found: Routes = {}
    for name in weights.shapes:
        rows = _folder_rows(name, architecture) if folder else _file_rows(name, architecture)
        if rows:
            found[name] = rows
    if not architecture.ema:
        return found
    names = weights.shapes
    means = {ema_name(name): name for name in found if name.startswith(UNET) and ema_name(name) in names}
    return {
        **{name: rows for name, rows in found.items() if name not in set(means.values())},
        **{mean: found[name] for mean, name in means.items()},
    }


def _file_rows(name: str, architecture: Architecture) -> tuple[Destination, ...]:
    if name.startswith(UNET):
        ours = unet_name(name.removeprefix(UNET), architecture.unet.layers)
        return (Destination("unet", Route(ours)),) if ours else ()
    if name.startswith(VAE):
        return (Destination("vae", Route(vae_name(name.removeprefix(VAE), len(architecture.vae.widths)))),)
    return _text_rows(name, architecture.texts)


def _text_rows(name: str, texts: tuple[TextShape, ...]) -> tuple[Destination, ...]:
    for index, text in enumerate(texts):
        if not name.startswith(text.prefix):
            continue
        bare = name.removeprefix(text.prefix)
        rows = open_clip_routes(bare) if text.open_clip else clip_routes(bare)
        return tuple(Destination(f"text{index}", row) for row in map(text_placed(text), rows) if row is not None)
    return ()


def text_placed(text: TextShape) -> Callable[[Route], Route | None]:
    """A module with a projection has the tower one level down; one without has no place for a projection's weights."""

    def placed(row: Route) -> Route | None:
        if row.name.startswith("text_projection"):
            return row if text.projection else None
        return row._replace(name="text_model." + row.name) if text.projection else row

    return placed


def _folder_rows(name: str, architecture: Architecture) -> tuple[Destination, ...]:
    part, _, rest = name.partition(".")
    if part == "unet":
        return (Destination("unet", Route(rest)),)
    if part == "vae":
        return (Destination("vae", Route(vae_name(rest, len(architecture.vae.widths)))),)
    return _text_rows(name, architecture.texts)


def vae_routes(weights: Weights, prefix: str, shape: VaeShape) -> Routes:
    """The same for a file of a VAE alone; `prefix` stands before its tensors' names."""
    return {
        name: (Destination("vae", Route(vae_name(name.removeprefix(prefix), len(shape.widths)))),)
        for name in weights.shapes
        if name.startswith(
            (prefix + "encoder.", prefix + "decoder.", prefix + "quant_conv.", prefix + "post_quant_conv.")
        )
    }
