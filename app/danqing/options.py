"""Options of drawing that are not fields of every form: the WebUI's settings that change a picture, under its own keys.

They are part of the request, so that nothing that somebody else sets can change a picture that waits in the queue.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Unit = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class DrawOptions(BaseModel):
    """Every value here is the WebUI's default (spec 20), so that `DrawOptions()` draws what a fresh WebUI draws.

    Sigmas are k-diffusion's noise levels; 0 means "the model's own" or "off". Ratios and weights lie in 0..1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # The prompt language.
    emphasis: Literal["None", "Ignore", "Original", "No norm"] = "Original"
    use_old_emphasis_implementation: bool = False
    use_old_scheduling: bool = False
    comma_padding_backtrack: Annotated[int, Field(ge=0, le=74)] = 20
    sdxl_clip_l_skip: bool = False

    # Guidance.
    s_min_uncond_all: bool = False
    skip_early_cond: Unit = 0.0
    pad_cond_uncond: bool = False
    pad_cond_uncond_v0: bool = False
    batch_cond_uncond: bool = True

    # Sampler parameters: one that is not at its default wins over the request's (spec 9.4).
    s_churn: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 0.0
    s_tmin: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 0.0
    s_tmax: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    s_noise: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 1.0

    # Noise and schedules. The etas: what a request that says none means, along timesteps and along sigmas.
    eta_ddim: Unit = 0.0
    eta_ancestral: Unit = 1.0
    eta_noise_seed_delta: Annotated[int, Field(ge=-(2**62), le=2**62)] = 0
    enable_quantization: bool = False
    always_discard_next_to_last_sigma: bool = False
    sgm_noise_multiplier: bool = False
    sigma_min: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 0.0
    sigma_max: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 0.0
    rho: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.0
    beta_dist_alpha: Annotated[float, Field(ge=0.01, le=1, allow_inf_nan=False)] = 0.6
    beta_dist_beta: Annotated[float, Field(ge=0.01, le=1, allow_inf_nan=False)] = 0.6
    use_old_karras_scheduler_sigmas: bool = False
    sd_noise_schedule: Literal["Default", "Zero Terminal SNR"] = "Default"
    use_downcasted_alpha_bar: bool = False
    no_dpmpp_sde_batch_determinism: bool = False
    ddim_discretize: Literal["uniform", "quad"] = "uniform"
    uni_pc_variant: Literal["bh1", "bh2", "vary_coeff"] = "bh1"
    uni_pc_skip_type: Literal["time_uniform", "time_quadratic", "logSNR"] = "time_uniform"
    uni_pc_order: Annotated[int, Field(ge=1, le=50)] = 3
    uni_pc_lower_order_final: bool = True

    # Image to image.
    initial_noise_multiplier: Annotated[float, Field(ge=0, le=1.5, allow_inf_nan=False)] = 1.0
    img2img_extra_noise: Unit = 0.0
    img2img_color_correction: bool = False
    img2img_fix_steps: bool = False
    img2img_background_color: Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")] = "#ffffff"
    inpainting_mask_weight: Unit = 1.0
    overlay_inpaint: bool = True
    return_mask: bool = False
    return_mask_composite: bool = False
    upscaler_for_img2img: str = ""

    # Hires fix and refiner.
    hires_fix_use_firstpass_conds: bool = False
    hires_fix_refiner_pass: Literal["first pass", "second pass", "both passes"] = "second pass"
    refiner_switch_by_sample_steps: bool = False
    use_old_hires_fix_width_height: bool = False

    # Models.
    sd_vae: str = "Automatic"
    sd_vae_overrides_per_model_preferences: bool = True
    auto_vae_precision: bool = True
    sdxl_crop_top: Annotated[int, Field(ge=0, le=8192)] = 0
    sdxl_crop_left: Annotated[int, Field(ge=0, le=8192)] = 0
    sdxl_refiner_low_aesthetic_score: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 2.5
    sdxl_refiner_high_aesthetic_score: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 6.0

    # Speed that changes the picture.
    cfg_end: Unit = 1.0
    """Share of the way after which guidance stops; 1 guides to the end."""
    feature_cache_interval: Annotated[int, Field(ge=1, le=10)] = 1
    """Every so many steps the whole UNet runs, its last layer alone between them; 1 is off."""
    token_merging_ratio: Annotated[float, Field(ge=0, le=0.9, allow_inf_nan=False)] = 0.0
    token_merging_ratio_img2img: Annotated[float, Field(ge=0, le=0.9, allow_inf_nan=False)] = 0.0
    token_merging_ratio_hr: Annotated[float, Field(ge=0, le=0.9, allow_inf_nan=False)] = 0.0

    # Upscalers and big pictures.
    ESRGAN_tile: Annotated[int, Field(ge=0, le=512)] = 192
    ESRGAN_tile_overlap: Annotated[int, Field(ge=0, le=48)] = 8
    vae_tile: Annotated[int, Field(ge=0, le=4096)] = 0
    """Side in pixels from which the VAE works in tiles; 0 lets the engine choose by memory."""
    diffusion_tile: Annotated[int, Field(ge=0, le=4096)] = 0
    """Side in pixels of the overlapping tiles in which a larger picture is denoised; 0 is off."""
    diffusion_tile_overlap: Annotated[int, Field(ge=0, le=2048)] = 64

    # Chosen always-on networks (the prompt's tags come on top).
    extra_networks_default_multiplier: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 1.0
    sd_hypernetwork: str = "None"
    sd_lora: str = "None"
    face_restoration_model: str = "CodeFormer"
    code_former_weight: Unit = 0.5

    # What an infotext says.
    add_model_name_to_info: bool = True
    add_model_hash_to_info: bool = True
    add_vae_name_to_info: bool = True
    add_vae_hash_to_info: bool = True
    add_version_to_infotext: bool = True
    lora_add_hashes_to_infotext: bool = True
    textual_inversion_add_hashes_to_infotext: bool = True
    lora_bundled_ti_to_infotext: bool = True
