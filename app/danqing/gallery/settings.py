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
)
