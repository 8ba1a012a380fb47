"""The engine's rows of the settings table."""

from __future__ import annotations

from danqing.settings import Setting

ROWS: tuple[Setting, ...] = (
    Setting("engine_device", "auto", "Device: auto, cpu, cuda or cuda:N.", "设备：auto、cpu、cuda 或 cuda:N。"),
    Setting(
        "engine_dtype",
        "auto",
        "Number format of the networks; auto is float32 on a CPU and float16 on a GPU.",
        "网络的数值格式；auto 在 CPU 上为 float32，在 GPU 上为 float16。",
        choices=("auto", "float32", "float16", "bfloat16"),
    ),
    Setting(
        "engine_threads",
        0,
        "CPU threads of the engine; 0 is one per core.",
        "引擎的 CPU 线程数；0 表示每核一个。",
        0,
        1024,
    ),
    Setting("engine_rows", 32, "Most rows of one UNet forward.", "一次 UNet 前向的最大行数。", 1, 1024),
    Setting(
        "engine_gain",
        0.97,
        "A batch twice as large must take at most this share of the time per row, else batches stop growing.",
        "批量加倍后每行用时须不超过此比例，否则批量不再增大。",
        0.1,
        10,
    ),
    Setting(
        "engine_denoise_budget",
        65536,
        "Latent pixels (height/8 * width/8 * rows) of one UNet forward; bounds memory.",
        "一次 UNet 前向的潜空间像素数（高/8 × 宽/8 × 行数），用于限制内存。",
        64,
        2**31,
    ),
    Setting(
        "engine_decode_budget",
        4096,
        "Latent pixels of one VAE forward; bounds memory.",
        "一次 VAE 前向的潜空间像素数，用于限制内存。",
        64,
        2**31,
    ),
    Setting(
        "engine_pictures",
        64,
        "Pictures being drawn at once, over all jobs.",
        "同时绘制的图片数（所有任务合计）。",
        1,
        4096,
    ),
    Setting(
        "engine_memory_mb",
        0,
        "Most MB that a picture may take beside the models; larger ones are refused before they begin. 0 is what is free.",
        "除模型外单张图片可占用的最大内存（MB），超出者在开始前即被拒绝；0 表示按当前空闲内存。",
        0,
        10**7,
    ),
    Setting("engine_models", 2, "Checkpoints kept in memory.", "内存中保留的模型数。", 1, 64),
    Setting(
        "preview_seconds", 0.4, "Seconds between two previews of a job.", "同一任务两次预览之间的秒数。", 0.0, 3600
    ),
)
