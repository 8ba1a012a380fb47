"""The VAE strip by strip: as exact as in one piece, with far less memory.

A picture cut into tiles that are decoded one by one shows seams, for the VAE's group norms average over the whole picture and
its attention looks at all of it. Here every layer is computed for the whole picture before the next one begins, a strip of rows
at a time with the rows that the convolution needs above and below; norms are taken over all strips. What remains in memory is
one feature map in, one out, and the workspace of one strip.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

Rows = Callable[[int, int], torch.Tensor]
"""Rows a to b (1, C, b - a, W) of a feature map, made when they are asked for."""

QUERIES = 8192
"""Queries of the attention in one go, where there are many."""


class Strips:
    """Runs an `AutoencoderKL` by strips of about `pixels` pixels. `wrap`: the picture's edges meet (tiling)."""

    def __init__(self, vae: Any, pixels: int, wrap: bool = False) -> None:
        self.vae, self.pixels, self.wrap = vae, pixels, wrap

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """What `vae.decode(latents)` gives, for (1, 4, h, w): (1, 3, 8h, 8w)."""
        decoder = self.vae.decoder
        x = self._conv(decoder.conv_in, self._of(self.vae.post_quant_conv(latents)), latents.shape[-2:])
        x = self._middle(decoder.mid_block, x)
        for block in decoder.up_blocks:
            for resnet in block.resnets:
                x = self._resnet(resnet, x)
            for upsampler in block.upsamplers or ():
                height, width = x.shape[-2:]
                x = self._conv(upsampler.conv, _doubled(x), (2 * height, 2 * width))
        return self._conv(decoder.conv_out, self._active(decoder.conv_norm_out, x), x.shape[-2:])

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """The posterior's moments of (1, 3, 8h, 8w): (1, 8, h, w), mean first."""
        encoder = self.vae.encoder
        x = self._conv(encoder.conv_in, self._of(images), images.shape[-2:])
        for block in encoder.down_blocks:
            for resnet in block.resnets:
                x = self._resnet(resnet, x)
            for downsampler in block.downsamplers or ():
                x = self._halved(downsampler.conv, x)
        x = self._middle(encoder.mid_block, x)
        moments: torch.Tensor = self.vae.quant_conv(
            self._conv(encoder.conv_out, self._active(encoder.conv_norm_out, x), x.shape[-2:])
        )
        return moments

    # -- layers --

    def _middle(self, block: Any, x: torch.Tensor) -> torch.Tensor:
        x = self._resnet(block.resnets[0], x)
        for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
            x = self._resnet(resnet, _attend(attention, x))
        return x

    def _resnet(self, resnet: Any, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        hidden = self._conv(resnet.conv1, self._active(resnet.norm1, x), (height, width))
        scale, shift = _norm(resnet.norm2, hidden)
        first, last = hidden[:, :, :1].clone(), hidden[:, :, -1:]
        above = last.clone() if self.wrap else torch.zeros_like(last)
        for start, end in self._strips(height, width):
            rows = [hidden[:, :, start : min(end + 1, height)]]
            if end == height and self.wrap:
                rows.append(first)
            piece = _silu(torch.cat(rows, 2), scale, shift)
            edge = _silu(above, scale, shift) if start or self.wrap else above
            piece = torch.cat([edge, piece], 2)
            if end == height and not self.wrap:
                piece = functional.pad(piece, (0, 0, 0, 1))
            # The strip takes the place of the rows that it was made of; the next one needs the last of them once more.
            above = hidden[:, :, end - 1 : end].clone()
            own = x[:, :, start:end]
            own = own if resnet.conv_shortcut is None else resnet.conv_shortcut(own)
            hidden[:, :, start:end] = own + self._convolve(resnet.conv2, piece, 1)
        return hidden

    def _conv(self, conv: Any, rows: Rows, size: tuple[int, ...]) -> torch.Tensor:
        """A 3×3 convolution of a feature map of `size`, which keeps that size."""
        height, width = size
        out: torch.Tensor | None = None
        for start, end in self._strips(height, width):
            result = self._convolve(conv, self._padded(rows, start - 1, end + 1, height), 1)
            if out is None:
                out = result.new_empty((1, result.shape[1], height, width))
            out[:, :, start:end] = result
        assert out is not None
        return out

    def _padded(self, rows: Rows, start: int, end: int, height: int) -> torch.Tensor:
        inside = rows(max(start, 0), min(end, height))
        if not self.wrap:
            return functional.pad(inside, (0, 0, max(-start, 0), max(end - height, 0)))
        above = [rows(height + start, height)] if start < 0 else []
        below = [rows(0, end - height)] if end > height else []
        return torch.cat([*above, inside, *below], 2)

    def _convolve(self, conv: Any, piece: torch.Tensor, sides: int) -> torch.Tensor:
        """A convolution of rows that have what they need above and below."""
        if sides and self.wrap:
            piece = functional.pad(piece, (sides, sides, 0, 0), mode="circular")
            sides = 0
        return functional.conv2d(piece, conv.weight, conv.bias, stride=conv.stride, padding=(0, sides))

    def _halved(self, conv: Any, x: torch.Tensor) -> torch.Tensor:
        """Half the size; zeros at the right and below, even where edges meet: the pad is not the convolution's own."""
        height, width = x.shape[-2] // 2, x.shape[-1] // 2
        out = x.new_empty((1, conv.out_channels, height, width))
        for start, end in self._strips(height, width):
            piece = x[:, :, 2 * start : min(2 * end + 1, x.shape[-2])]
            piece = functional.pad(piece, (0, 1, 0, 2 * end + 1 - 2 * start - piece.shape[2]))
            out[:, :, start:end] = functional.conv2d(piece, conv.weight, conv.bias, stride=2)
        return out

    def _active(self, norm: Any, x: torch.Tensor) -> Rows:
        scale, shift = _norm(norm, x)
        return lambda a, b: _silu(x[:, :, a:b], scale, shift)

    def _of(self, x: torch.Tensor) -> Rows:
        return lambda a, b: x[:, :, a:b]

    def _strips(self, height: int, width: int) -> list[tuple[int, int]]:
        rows = max(1, min(height, self.pixels // width))
        return [(start, min(start + rows, height)) for start in range(0, height, rows)]


def _doubled(x: torch.Tensor) -> Rows:
    """Every pixel twice in each direction."""

    def rows(a: int, b: int) -> torch.Tensor:
        piece = x[:, :, a // 2 : (b + 1) // 2]
        return functional.interpolate(piece, scale_factor=2.0, mode="nearest")[:, :, a % 2 : a % 2 + b - a]

    return rows


def _norm(norm: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Factor and summand of every channel that make a group norm over the whole feature map, float32."""
    # Group by group: the whole map in float32 would be a second one where the network is float16.
    moments = [torch.var_mean(group.float(), correction=0) for group in x[0].chunk(norm.num_groups)]
    variance, mean = (torch.stack(rows) for rows in zip(*moments, strict=True))
    each = x.shape[1] // norm.num_groups
    inverse = (variance + norm.eps).rsqrt().repeat_interleave(each)
    scale = inverse * norm.weight.float()
    shift = norm.bias.float() - mean.repeat_interleave(each) * scale
    return scale[:, None, None], shift[:, None, None]


def _silu(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    return functional.silu((x.float() * scale).add_(shift), inplace=True).to(x.dtype)


def _attend(attention: Any, x: torch.Tensor) -> torch.Tensor:
    """The attention of the whole picture with itself, a part of the queries at a time where there are many."""
    height, width = x.shape[-2:]
    if height * width <= QUERIES:
        out: torch.Tensor = attention(x)
        return out
    tokens = attention.group_norm(x.flatten(2)).transpose(1, 2)
    key, value = (project(tokens).unsqueeze(1) for project in (attention.to_k, attention.to_v))
    parts = [
        functional.scaled_dot_product_attention(attention.to_q(part).unsqueeze(1), key, value).squeeze(1)
        for part in tokens.split(QUERIES, 1)
    ]
    mixed = attention.to_out[0](torch.cat(parts, 1)).transpose(1, 2).reshape(x.shape)
    joined: torch.Tensor = mixed + x if attention.residual_connection else mixed
    return joined
