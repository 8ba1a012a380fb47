"""Settings of the gallery."""

from __future__ import annotations

from danqing.settings import Setting

ROWS: tuple[Setting, ...] = (
    Setting(
        "temporary_hours",
        24.0,
        "Pictures that their owner did not ask to save are removed after this many hours.",
        "未要求保存的图片在此小时数后删除。",
        0.01,
        24 * 3650,
    ),
    Setting(
        "limit_upload_pixels",
        64 * 1024 * 1024,
        "Most pixels in a picture that is handed in.",
        "上传图片的最大像素数。",
        4096,
        2**31,
    ),
    Setting(
        "input_hours",
        72.0,
        "Pictures that were handed in are removed after this many hours, unless a waiting job needs them.",
        "上传的图片在此小时数后删除，除非有排队的任务还需要它。",
        0.01,
        24 * 3650,
    ),
    Setting(
        "picture_days",
        0.0,
        "Saved pictures that are no favourites are removed after this many days; 0 keeps them for ever.",
        "未收藏的已保存图片在此天数后删除；0 表示永久保留。",
        0,
        36500,
    ),
    Setting(
        "trash_days",
        1.0,
        "Pictures that their owner has deleted can be brought back for this many days.",
        "用户删除的图片在此天数内可以恢复。",
        0,
        3650,
    ),
    Setting(
        "disk_warn_mb",
        2048,
        "A warning is given when less than this many MB are free on the disk.",
        "磁盘剩余空间低于此值（MB）时发出警告。",
        0,
        10**7,
    ),
)
