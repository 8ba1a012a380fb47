"""A VAE's halves as compiled code has them, with weights that are brought along and may move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from danqing import torchvision_shim as torchvision_shim
from danqing.engine import compile_vae, compile_worker
from danqing.engine.compile import BOUNDS
from danqing.engine.compile_store import Store, Want
from danqing.engine.compile_vae import Coder, example
from danqing.engine.compile_worker import compiled_into
from danqing.engine.compiled import CompiledNetworks

QUICK = {"aot_inductor.compile_wrapper_opt_level": "O0", "cpp.simdlen": 1}
"""What g++ takes least time for; the code with vectors is compiled for a UNet (`test_compile_unet.py`)."""


def micro(seed: int = 0, groups: int = 4) -> Any:
    """One level, half the layers."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(seed)
    vae = AutoencoderKL(block_out_channels=(8,), layers_per_block=1, norm_num_groups=groups, latent_channels=4)
    return vae.eval().requires_grad_(False)


@torch.inference_mode()
def test_the_halves_are_the_vaes_own() -> None:
    vae = micro()
    (latents,), (pixels,) = example(vae, "decode", 8, 6), example(vae, "encode", 1, 2)
    assert (latents.shape, pixels.shape) == ((2, 4, 8, 6), (2, 3, 8, 16))
    assert torch.equal(Coder(vae, "decode")(latents), vae.decode(latents, return_dict=False)[0])
    assert torch.equal(Coder(vae, "encode")(pixels), vae.encode(pixels).latent_dist.mean)


def test_architectures_are_told_apart() -> None:
    known = compile_vae.architecture_of(micro())
    assert compile_vae.architecture_of(micro(seed=1)) == known
    assert compile_vae.architecture_of(micro(groups=2)) != known  # shows in no tensor
    assert compile_vae.architecture_of(micro().half()) != known


def tended(compiled: CompiledNetworks, vaes: list[Any]) -> None:
    for _ in range(5):
        compiled.shelf.look()
        compiled.tend([], vaes)
        if compiled.shelf.reading is not None:
            compiled.shelf.reading[2].exception()


@torch.inference_mode()
def test_a_compiled_decoder_decodes_with_every_vaes_own_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way: exported, compiled by g++, compared, published, read by the engine, used; the weights then move."""
    monkeypatch.setattr(compile_worker, "MEASURED_SECONDS", 0.1)
    store, vae = Store([tmp_path], "here"), micro()
    want = Want(compile_vae.architecture_of(vae), "decode", 8, 6)
    with store.making(want) as half:
        answer = compiled_into(half, vae, want, **QUICK)
        assert answer["difference"] < BOUNDS["float32"]
        store.publish(half, want, **(answer | {"gain": 1.3}))  # what such a small one gains is no matter
    compiled, other = CompiledNetworks(store), micro(seed=7)
    tended(compiled, [vae, other])
    assert (compiled.report()["vae_gain"], compiled.report()["state"]) == (1.3, "eager")
    (latents,) = example(vae, "decode", 8, 6, rows=3)

    def agrees(network: Any, x: torch.Tensor) -> bool:
        out = compiled.vaes.run(network, "decode", x)
        assert out is not None
        return bool((out - network.decode(x, return_dict=False)[0]).abs().max() < 1e-5)

    assert agrees(vae, latents)
    assert agrees(other, latents[:1])
    assert agrees(vae, latents.contiguous(memory_format=torch.channels_last))
    # Aside and back, as when the UNet needs the room: what lay under the old addresses is gone.
    for parameter in other.parameters():
        old = parameter.data
        parameter.data = old.clone()
        old.fill_(torch.nan)
    assert agrees(other, latents)
    assert compiled.vaes.run(vae, "encode", latents) is None
    assert compiled.vaes.run(vae, "decode", latents[..., :4]) is None
    vae.to(torch.float64)  # another format, as after NaN
    assert compiled.vaes.run(vae, "decode", latents.double()) is None
    tended(compiled, [other])  # the other has left memory
    assert [key[0] for key in compiled.shelf.ready] == [id(other)]
