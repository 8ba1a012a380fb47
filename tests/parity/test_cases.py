"""Every recorded case of the WebUI, drawn again as a user's request is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.parity.fixture import CASES, make
from tests.parity.replay import Replay

FOUND = sorted(path for kind in ("txt2img", "img2img") for path in (CASES / kind).glob("*.json"))


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    folder = tmp_path_factory.mktemp("parity")
    return Replay(make(folder / "data"), CASES / "inputs", folder / "out")


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_recorded_case(replay: Replay, path: Path) -> None:
    """Latents, pixels, the number of pictures and the infotext."""
    result = replay.case(path)
    assert result.good, result
    assert not result.note.startswith("infotext"), result.note


def test_what_is_written_is_what_was_compared(replay: Replay) -> None:
    path = CASES / "txt2img" / "p_plain.json"
    assert replay.case(path).latent is not None
    latent = np.load(replay.out / "p_plain.0.npz")["latent"]
    recorded = np.load(path.with_name("p_plain.0.npz"))["iter0_latent"][0]
    assert latent.shape == recorded.shape
    assert np.abs(latent - recorded).max() < 1e-3
    assert (replay.out / "p_plain.0.png").is_file()


def test_a_wrong_picture_is_seen(replay: Replay, tmp_path: Path) -> None:
    """The comparison can fail: another seed is beyond the bounds."""
    source = CASES / "txt2img" / "p_plain.json"
    case = json.loads(source.read_text("utf-8"))
    case["request"]["seed"] = 43
    for name in ("p_plain.0.npz", "p_plain.0.png"):
        (tmp_path / name).write_bytes(source.with_name(name).read_bytes())
    (tmp_path / "p_plain.json").write_text(json.dumps(case), "utf-8")
    assert not replay.case(tmp_path / "p_plain.json").good


SMALL = {
    **{"prompt": "a cat", "seed": 42, "steps": 2, "width": 64, "height": 64, "sampler_name": "Euler", "cfg_scale": 3.0},
    **{"scheduler": "Automatic", "subseed": 0},
}
HIRES = {"enable_hr": True, "hr_scale": 1.5, "denoising_strength": 0.5}
PICTURE = {"init_images": ["@inputs/small64.png"], "denoising_strength": 0.6}
LORA = "d13cb7648f32"


@pytest.mark.parametrize(
    ("body", "options", "told"),
    [
        (
            {
                **{**HIRES, "prompt": "a <lora:tiny_alias:1>", "hr_prompt": "b <lora:tinylora:0.5><lora:tinylora:1>"},
                **{"hr_checkpoint_name": "tiny-sd15-b", "sampler_name": "DDIM", "hr_sampler_name": "DPM++ 2M"},
            },
            {"token_merging_ratio": 0.3},
            "Denoising strength: 0.5, Token merging ratio: 0.3, Token merging ratio hr: 0.3, RNG: CPU, "
            "Hires checkpoint: tiny-sd15-b [5d1e07299c], Hires sampler: DPM++ 2M, "
            'Hires prompt: "b <lora:tinylora:0.5><lora:tinylora:1>", Hires schedule type: Karras, Hires upscale: 1.5, '
            f'Lora hashes: "tiny_alias: {LORA}, tinylora: {LORA}", Version: v1.10.1',
        ),
        (
            {**HIRES, "hr_prompt": "a tiemb", "hr_second_pass_steps": 3, "refiner_checkpoint": "tiny-sd15-b"},
            {
                "hires_fix_refiner_pass": "both passes",
                "refiner_switch_by_sample_steps": True,
                "use_old_scheduling": True,
            },
            "Hires prompt: a tiemb, Hires upscale: 1.5, Hires steps: 3, Refiner switch by sampling steps: True, "
            "Hires refiner: both passes, Refiner: tiny-sd15-b [5d1e07299c], Refiner switch at: 0.0, "
            "Old prompt editing timelines: True, Version: v1.10.1",
        ),
        (
            {**PICTURE, "mask": "@inputs/black64.png", "restore_faces": True},
            {
                **{"initial_noise_multiplier": 1.2, "img2img_extra_noise": 0.1, "s_noise": 1.01},
                **{"sd_noise_schedule": "Zero Terminal SNR"},
            },
            "Seed: 42, Face restoration: CodeFormer, Size: 64x64, Model hash: dcb4c28710, Model: tiny-sd15, "
            "Denoising strength: 0.6, RNG: CPU, Mask blur: 4, "
            "Noise Schedule: Zero Terminal SNR, Noise multiplier: 1.2, Extra noise: 0.1, Sigma noise: 1.01, "
            "Version: v1.10.1",
        ),
        (
            {"prompt": "a tiemb"},
            {
                **{"sd_vae": "tinyvae.safetensors", "sd_lora": "tinylora", "extra_networks_default_multiplier": 0.5},
                **{"add_model_name_to_info": False, "add_vae_hash_to_info": False, "add_version_to_infotext": False},
                **{"textual_inversion_add_hashes_to_infotext": False},
            },
            "a tiemb<lora:tinylora:0.5>\nSteps: 2, Sampler: Euler, Schedule type: Automatic, CFG scale: 3.0, Seed: 42, "
            f'Size: 64x64, Model hash: dcb4c28710, VAE: tinyvae.safetensors, RNG: CPU, Lora hashes: "tinylora: {LORA}"',
        ),
        (
            {"sampler_name": "DPM2 a", "refiner_checkpoint": "tiny-sd15", "refiner_switch_at": 0.5},
            {
                **{"rho": 7.0, "sigma_min": 0.1, "s_noise": 1.01, "eta_ancestral": 0.5, "skip_early_cond": 0.1},
                **{"use_downcasted_alpha_bar": True},
            },
            "RNG: CPU, Downcast alphas_cumprod: True, Schedule min sigma: 0.1, Eta: 0.5, Sigma noise: 1.01, "
            "Skip Early CFG: 0.1, Version: v1.10.1",
        ),
    ],
    ids=["hires", "refiner", "picture", "untold", "eta"],
)
def test_what_is_told_of_several_features_at_once(
    replay: Replay, body: dict[str, object], options: dict[str, object], told: str
) -> None:
    """Keys in the order in which the WebUI comes upon them, pass after pass."""
    ours = replay.draw({**SMALL, **body, "override_settings": {"sd_model_checkpoint": "tiny-sd15", **options}})
    assert ours.error is None
    assert ours.texts[0].endswith(told)


def test_scripts_tell_their_arguments_first(replay: Replay) -> None:
    script = {"script_name": "SD upscale", "script_args": ["", 16, "Nearest", 1.5]}
    options = {"sd_model_checkpoint": "tiny-sd15", "initial_noise_multiplier": 1.2}
    ours = replay.draw({**SMALL, **PICTURE, **script, "override_settings": options})
    told = "RNG: CPU, SD upscale overlap: 16, SD upscale upscaler: Nearest, Noise multiplier: 1.2, Version: v1.10.1"
    assert ours.texts[0].endswith(told)
