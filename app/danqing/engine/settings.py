"""The engine's rows of the settings table."""

from __future__ import annotations

from danqing.settings import Setting, Settings

SMALLEST_SPLIT_MB = 21
"""torch refuses to split at less than its large blocks' 20 MB."""

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
    Setting(
        "engine_nice",
        5,
        "On a CPU, how far drawing steps back for pages and previews (niceness; 0 not at all).",
        "在 CPU 上作画时为页面和预览让步的程度（nice 值；0 表示不让步）。",
        0,
        19,
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
    Setting(
        "engine_step_ms",
        0.0,
        "Milliseconds that one UNet forward should take at most; batches stop growing there. 0 looks at the gain alone.",
        "一次 UNet 前向的目标最长毫秒数，批量增长到此为止；0 表示只看收益。",
        0.0,
        600000,
    ),
    Setting(
        "engine_parked_mb",
        8192,
        "MB of the host's memory for checkpoints that made room on a GPU; they come back without the disk. 0 parks none.",
        "为从显存让位的模型预留的主机内存（MB），再次使用时无需读盘；0 表示不保留。",
        0,
        10**7,
    ),
    Setting(
        "engine_half_sums",
        False,
        "Sum matrix products in float16 on cards that are faster so (8.6, 8.9); what it does to pictures is not measured.",
        "在更快的显卡（8.6、8.9）上以 float16 累加矩阵乘积；对画面的影响尚未测量。",
    ),
    Setting(
        "engine_compiled",
        "auto",
        "Use compiled networks where `danqing box compile` has made some that are faster here: auto or off.",
        "在 `danqing box compile` 已编译且更快时使用编译后的网络：auto 或 off。",
        choices=("auto", "off"),
    ),
    Setting(
        "compile_sizes",
        "auto",
        "Picture sizes to compile for, as 512x512,512x768; auto is the model's own square and 2:3 both ways.",
        "要编译的图片尺寸，如 512x512,512x768；auto 为模型自身的方形及 2:3 横竖两种。",
    ),
    Setting(
        "compile_models",
        1,
        "Checkpoints whose networks are compiled, the default first.",
        "编译多少个模型的网络，默认模型优先。",
        1,
        64,
    ),
    Setting(
        "compile_minutes",
        30.0,
        "Minutes after which the compiling of one network is given up.",
        "单个网络编译的最长分钟数，超时放弃。",
        0.01,
        1440,
    ),
    Setting(
        "compile_baked",
        "/opt/danqing/share/compiled",
        "Folder with compiled networks that came with the image; empty for none.",
        "镜像自带的编译网络所在文件夹；空表示没有。",
    ),
    Setting("engine_models", 2, "Checkpoints kept in memory.", "内存中保留的模型数。", 1, 64),
    Setting(
        "preview_seconds", 0.4, "Seconds between two previews of a job.", "同一任务两次预览之间的秒数。", 0.0, 3600
    ),
    Setting(
        "safety_checker",
        False,
        "Finished pictures are looked at by the safety checker under DATA/models/safety_checker; those that it finds come out "
        "black, and there are no previews. Without its files nothing is drawn.",
        "用 DATA/models/safety_checker 中的安全检查器检查完成的图片；检出者以黑图代替，且不显示预览。缺少其文件时不作画。",
    ),
    Setting(
        "alloc_max_split_mb",
        0,
        "CUDA allocator: blocks larger than so many MB are not split, against fragmentation; 0 is no limit, else at least 21.",
        "CUDA 显存分配器：大于此 MB 的块不再拆分，以减少碎片；0 为不限，否则至少 21。",
        0,
        10**6,
    ),
    Setting(
        "alloc_expandable",
        False,
        "CUDA allocator: segments that grow, against fragmentation when sizes change often.",
        "CUDA 显存分配器：使用可扩展段，适合尺寸经常变化、碎片较多的情况。",
    ),
    Setting(
        "alloc_collect_at",
        0.0,
        "CUDA allocator: share of the memory from which unused blocks are given back early; 0 is never.",
        "CUDA 显存分配器：占用达到此比例时提前归还空闲块；0 为从不。",
        0,
        1,
    ),
)


def allocator_words(settings: Settings) -> str:
    """The allocator's rows as torch reads them from PYTORCH_CUDA_ALLOC_CONF, "" for torch's own ways.

    https://docs.pytorch.org/docs/stable/notes/cuda.html#optimizing-memory-usage-with-pytorch-cuda-alloc-conf
    """
    split, share = settings.get_int("alloc_max_split_mb"), settings.get_float("alloc_collect_at")
    words = []
    if split:
        words.append(f"max_split_size_mb:{max(SMALLEST_SPLIT_MB, split)}")
    if settings.get_bool("alloc_expandable"):
        words.append("expandable_segments:True")
    if 0 < share < 1:
        words.append(f"garbage_collection_threshold:{share:g}")
    return ",".join(words)
