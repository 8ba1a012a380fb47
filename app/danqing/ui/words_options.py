"""Words of the options of drawing, by the WebUI's keys, and the groups they are shown in; in English and in Chinese."""

from __future__ import annotations

from collections.abc import Mapping

_PROMPT = {
    "emphasis": ("How weights like (word:1.2) are read", "权重写法（如 (词:1.2)）的解读方式"),
    "use_old_emphasis_implementation": ("The first WebUI's way of reading weights", "使用旧版权重解读"),
    "use_old_scheduling": ("The old timeline of [from:to:when]", "使用旧版 [从:到:时机] 时间线"),
    "comma_padding_backtrack": (
        "Cut long prompts at a comma at most so many tokens back",
        "长提示词在最近多少个词元内的逗号处断开",
    ),
    "sdxl_clip_l_skip": ("CLIP skip also for SDXL's first encoder", "SDXL 的第一个编码器也跳过 CLIP 层"),
}
_GUIDANCE = {
    "s_min_uncond": ("Skip the negative prompt below this sigma", "低于此 sigma 时省略反向提示词"),
    "s_min_uncond_all": ("Skip it in all steps, not in every second", "每一步都省略，而非隔步省略"),
    "skip_early_cond": ("Share of the first steps without guidance", "起初多少比例的步数不做引导"),
    "pad_cond_uncond": ("Pad both prompts to one length", "把两个提示词补齐到同样长度"),
    "pad_cond_uncond_v0": ("Pad as old versions did", "按旧版方式补齐"),
    "batch_cond_uncond": ("Both prompts in one pass", "两个提示词一次算完"),
}
_SAMPLING = {
    "randn_source": ("Whose random numbers make the noise", "噪声随机数的来源"),
    "eta_ancestral": ("Eta of ancestral samplers", "祖先采样器的 eta"),
    "eta_ddim": ("Eta of DDIM", "DDIM 的 eta 值"),
    "s_churn": ("Sigma churn", "Sigma 搅动量"),
    "s_tmin": ("Sigma tmin", "Sigma 下限"),
    "s_tmax": ("Sigma tmax (0: none)", "Sigma 上限（0 为无限）"),
    "s_noise": ("Sigma noise", "Sigma 噪声量"),
    "eta_noise_seed_delta": ("Added to the seed of ancestral noise (ENSD)", "祖先噪声种子偏移（ENSD）"),
    "enable_quantization": ("Round the sampler's sigmas to trained ones", "把 sigma 取整到训练时的取值"),
    "always_discard_next_to_last_sigma": ("Discard the last sigma but one", "总是丢弃倒数第二个 sigma"),
    "sgm_noise_multiplier": ("SGM noise multiplier", "SGM 噪声倍率"),
    "sigma_min": ("Smallest sigma of the schedule (0: the model's)", "调度的最小 sigma（0 为模型默认）"),
    "sigma_max": ("Largest sigma of the schedule (0: the model's)", "调度的最大 sigma（0 为模型默认）"),
    "rho": ("Rho of the schedule (0: its own)", "调度的 rho（0 为默认）"),
    "beta_dist_alpha": ("Alpha of the Beta schedule", "Beta 调度的 alpha"),
    "beta_dist_beta": ("Beta of the Beta schedule", "Beta 调度的 beta"),
    "use_old_karras_scheduler_sigmas": (
        "Karras sigmas as in old versions (0.1 to 10)",
        "使用旧版 Karras sigma（0.1 到 10）",
    ),
    "sd_noise_schedule": ("Noise schedule for training sigmas", "训练噪声调度"),
    "use_downcasted_alpha_bar": ("Alphas rounded as in old versions", "按旧版舍入 alpha"),
    "no_dpmpp_sde_batch_determinism": ("SDE noise of a batch depends on the batch", "SDE 噪声随批次变化（旧版行为）"),
    "ddim_discretize": ("Steps of DDIM", "DDIM 步长"),
    "uni_pc_variant": ("UniPC variant", "UniPC 变体"),
    "uni_pc_skip_type": ("UniPC steps", "UniPC 步长"),
    "uni_pc_order": ("UniPC order", "UniPC 阶数"),
    "uni_pc_lower_order_final": ("UniPC: lower order at the end", "UniPC 结尾降阶"),
}
_IMAGE = {
    "initial_noise_multiplier": ("Noise multiplier of image to image", "图生图噪声倍率"),
    "img2img_extra_noise": ("Extra noise of image to image", "图生图额外噪声"),
    "img2img_color_correction": ("Give the result the input's colours", "结果采用输入图的色彩"),
    "img2img_fix_steps": ("As many steps as asked, whatever the strength", "无论幅度如何都按设定步数绘制"),
    "img2img_background_color": ("What transparent parts become", "透明部分的填充颜色"),
    "inpainting_mask_weight": ("Conditioning mask of inpainting models", "重绘模型的条件蒙版权重"),
    "overlay_inpaint": ("Lay the untouched parts over the result", "用原图覆盖未重绘部分"),
    "return_mask": ("Also give the mask", "同时输出蒙版"),
    "return_mask_composite": ("Also give the repainted part alone", "同时输出单独的重绘部分"),
    "upscaler_for_img2img": ("Upscaler that enlarges input pictures", "放大输入图片所用的算法"),
}
_SECOND = {
    "hires_fix_use_firstpass_conds": (
        "Hires: its prompts are read with the first pass's LoRAs",
        "高清轮的提示词按首轮的 LoRA 编码",
    ),
    "hires_fix_refiner_pass": ("Hires: in which pass the refiner works", "精修模型作用于哪一轮"),
    "refiner_switch_by_sample_steps": ("Refiner: the switch counts sampling steps", "按采样步数计算精修切换"),
    "use_old_hires_fix_width_height": ("Width and height are the final size", "宽高表示最终尺寸（旧版）"),
}
_MODEL = {
    "sd_vae": ("VAE", "VAE 模型"),
    "sd_vae_overrides_per_model_preferences": ("It wins over what is kept beside a model", "优先于模型自带的 VAE 设定"),
    "auto_vae_precision": ("VAE in full precision after NaN", "出现 NaN 时 VAE 改用全精度"),
    "sdxl_crop_top": ("SDXL: crop from the top", "SDXL 顶部裁剪"),
    "sdxl_crop_left": ("SDXL: crop from the left", "SDXL 左侧裁剪"),
    "sdxl_refiner_low_aesthetic_score": ("SDXL refiner: low score", "SDXL 精修：低美学分"),
    "sdxl_refiner_high_aesthetic_score": ("SDXL refiner: high score", "SDXL 精修：高美学分"),
    "extra_networks_default_multiplier": ("Strength of the next two", "以下两项的强度"),
    "sd_hypernetwork": ("Hypernetwork for every picture", "始终使用的超网络"),
    "sd_lora": ("LoRA for every picture", "始终使用的 LoRA"),
    "face_restoration_model": ("Face restorer", "面部修复模型"),
    "code_former_weight": ("CodeFormer weight", "CodeFormer 权重"),
}
_SPEED = {
    "cfg_end": ("Share of the steps after which guidance stops", "在多少比例的步数之后停止引导"),
    "feature_cache_interval": ("Run the whole UNet every so many steps", "每隔多少步运行一次完整 UNet"),
    "token_merging_ratio": ("Token merging ratio", "Token 合并比例"),
    "token_merging_ratio_img2img": ("Token merging ratio, image to image", "图生图 Token 合并比例"),
    "token_merging_ratio_hr": ("Token merging ratio, hires", "高清轮 Token 合并比例"),
    "ESRGAN_tile": ("Tile of upscalers in pixels (0: none)", "放大分块大小（像素，0 为不分块）"),
    "ESRGAN_tile_overlap": ("Overlap of those tiles", "放大分块重叠"),
    "vae_tile": ("Tile of the VAE in pixels (0: by memory)", "VAE 分块大小（像素，0 为按内存决定）"),
    "diffusion_tile": (
        "Tile in which larger pictures are drawn, in pixels (0: none)",
        "大图分块绘制的分块大小（像素，0 为不分块）",
    ),
    "diffusion_tile_overlap": ("Overlap of those tiles", "绘制分块重叠"),
}
_TOLD = {
    "add_model_name_to_info": ("The model's name", "模型名称"),
    "add_model_hash_to_info": ("The model's hash", "模型哈希"),
    "add_vae_name_to_info": ("The VAE's name", "VAE 名称"),
    "add_vae_hash_to_info": ("The VAE's hash", "VAE 哈希"),
    "add_version_to_infotext": ("The version", "版本号"),
    "lora_add_hashes_to_infotext": ("Hashes of LoRAs", "LoRA 哈希"),
    "textual_inversion_add_hashes_to_infotext": ("Hashes of embeddings", "embedding 哈希"),
    "lora_bundled_ti_to_infotext": ("Embeddings inside LoRAs", "LoRA 内附的 embedding"),
}

GROUPS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("Prompts", "提示词"): tuple(_PROMPT),
    ("Guidance", "引导"): tuple(_GUIDANCE),
    ("Sampling", "采样"): tuple(_SAMPLING),
    ("Image to image and inpainting", "图生图与重绘"): tuple(_IMAGE),
    ("Hires fix and refiner", "高分辨率修复与精修"): tuple(_SECOND),
    ("Models", "模型"): tuple(_MODEL),
    ("Speed and memory", "速度与显存"): tuple(_SPEED),
    ("What a picture's parameters say", "生成参数的内容"): tuple(_TOLD),
}

OPTIONS: Mapping[str, tuple[str, str]] = {
    **_PROMPT,
    **_GUIDANCE,
    **_SAMPLING,
    **_IMAGE,
    **_SECOND,
    **_MODEL,
    **_SPEED,
    **_TOLD,
}
"""All of them, by key."""
