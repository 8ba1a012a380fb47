"""Every stage trains, saves, resumes and exports; a few steps on a handful of pictures.

What it does not know: whether the result is any good. That is `test_weights`' part.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from danqing.mini import cache, train_unet, train_vae
from danqing.mini.export import export, load_pipeline
from danqing.mini.figures import draw
from danqing.mini.linear_start import start_linear
from danqing.mini.nets import new_unet, new_vae, signal
from danqing.mini.parallel import Clock
from danqing.mini.train_text import train_text
from danqing.mini.train_unet import PHASES, Phase, noised, phase_at, weights_of
from danqing.mini.train_vae import Windows, decibels, train_decoder
from danqing.mini.words import Words

SECONDS = 0.5 / 60
"""Minutes; a stage makes one step at least, however short its time."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every stage trained for an instant, the UNet's run cut in two."""
    out = tmp_path_factory.mktemp("mini")
    few = Words.gather(captions_each=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Words, "gather", lambda: few)
        patch.setattr(cache, "SHARD", 25)
        patch.setattr(train_unet, "BATCH", {"cpu": 2, "cuda": 2})
        patch.setattr(train_unet, "PHASES", (Phase(0.0, (1, 0, 0, 0, 0), 25), Phase(0.5, (1, 1, 0, 0, 0), 50)))
        train_vae.train_vae(out, SECONDS)
        train_text(out, SECONDS)
        train_unet.train_unet(out, 2 * SECONDS, False)
        first = torch.load(out / "unet.pt", weights_only=True)
        train_unet.train_unet(out, 4 * SECONDS, True)
        second = torch.load(out / "unet.pt", weights_only=True)
        train_decoder(out, SECONDS)
    assert 0 < first["samples"] < second["samples"]
    assert first["minutes"] < second["minutes"]
    assert second["flats"][0]["steps"] > first["flats"][0]["steps"]
    assert not first["flats"][0]["flat"].equal(second["flats"][0]["flat"])
    return out


def test_stages_leave_no_half_written_files(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert {"vae.pt", "text.pt", "unet.pt", "decoder.pt", "words.json", "statistics.pt"} <= names
    assert not list(trained.rglob("*.tmp"))
    assert {path.name for path in (trained / "latents").iterdir()} >= {"one-000.pt", "places-000.pt"}


def test_the_decoders_lesson_leaves_the_encoder_alone(trained: Path) -> None:
    before, after = (torch.load(trained / name, weights_only=True) for name in ("vae.pt", "decoder.pt"))
    assert all(before[k].equal(after[k]) for k in before if k.startswith(("encoder", "quant")))
    assert not before["decoder.conv_out.weight"].equal(after["decoder.conv_out.weight"])


def test_what_was_trained_can_be_exported_and_drawn_with(trained: Path, tmp_path: Path) -> None:
    path = export(trained, tmp_path)
    (picture,) = draw(load_pipeline(path), ["a red circle"], steps=1)
    assert picture.shape == (128, 128, 3)
    assert path.with_suffix(".yaml").exists()


def test_the_linear_start_is_a_fair_autoencoder() -> None:
    torch.manual_seed(0)
    pictures, vae = Windows(3).batch(3, full=True), start_linear(new_vae())
    with torch.no_grad():
        drawn = vae.decode(vae.encode(pictures).latent_dist.mean).sample
        default = new_vae()(pictures).sample
    linear, plain = (decibels(float((d - pictures).square().mean())) for d in (drawn, default))
    assert linear > 17
    assert linear > plain + 5


def test_a_new_unet_calls_its_input_noise() -> None:
    torch.manual_seed(0)
    noise = torch.randn(2, 4, 16, 16)
    with torch.no_grad():
        guess = new_unet()(noise, 999, torch.randn(2, 77, 64)).sample
    assert float((guess - noise).square().mean()) < 0.02


def test_noise_and_weights_follow_the_schedule() -> None:
    torch.manual_seed(0)
    signals = signal()
    assert 0.004 < float(signals[-1]) < 0.006
    noisy, times, noise = noised(torch.zeros(4000, 4, 2, 2), signals)
    assert 0.7 < float((times >= 500).float().mean()) < 0.8
    share = signals[times].view(-1, 1, 1, 1)
    assert torch.allclose(noisy, (1 - share).sqrt() * noise)
    weights = weights_of(torch.arange(1000), signals)
    assert float(weights.max()) == 12
    assert bool((weights.diff() >= 0).all())


def test_phases_widen_and_never_forget() -> None:
    assert phase_at(0.0) is PHASES[0]
    assert phase_at(0.99) is PHASES[-1]
    for earlier, later in pairwise(PHASES):
        assert earlier.start < later.start
        assert {k for k, w in enumerate(earlier.weights) if w} <= {k for k, w in enumerate(later.weights) if w}


def test_a_resumed_clock_goes_on_where_it_stopped() -> None:
    clock = Clock(2.0, before=1.5, seconds=10)
    starts = list(clock.rounds())
    assert starts[0] == 0.75
    assert len(starts) == 3
