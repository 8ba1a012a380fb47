"""DeepDanbooru's file with very few channels and random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

TAGS = ["1girl", "long_hair", "hat_(red)", "rating:safe", "tree"]


def write_tagger(
    folder: Path, tags: list[str], widths: tuple[int, ...] = (8, 16), spoil: str = "", sure: bool = False
) -> None:
    """DeepDanbooru with few channels: a stem, two stages of two blocks, a head. `sure`: it sees everything everywhere."""
    torch.manual_seed(1)
    shapes = [(4, 3, 7)]
    last = 4
    for width in widths:
        inner = width // 4
        shapes += [(width, last, 1), (inner, last, 1), (inner, inner, 3), (width, inner, 1)]
        shapes += [(inner, width, 1), (inner, inner, 3), (width, inner, 1)]
        last = width
    shapes.append((len(TAGS), last, 1))
    state: dict[str, Any] = {"tags": tags}
    for number, (out, of, kernel) in enumerate(shapes):
        state[f"n_Conv_{number}.weight"] = torch.randn(out, of, kernel, kernel)
        if number < len(shapes) - 1:
            state[f"n_Conv_{number}.bias"] = torch.randn(out)
        elif sure:
            state[f"n_Conv_{number}.weight"].abs_()
    state.pop(spoil, None)
    folder.mkdir(parents=True)
    torch.save(state, folder / "model-resnet_custom_v3.pt")
