"""Settings of training."""

from __future__ import annotations

from dataclasses import dataclass

from danqing.settings import Setting, Settings

ROWS: tuple[Setting, ...] = (
    Setting("limit_train_pictures", 5000, "Most pictures to train on.", "用于训练的最多图片数。", 1, 10**6),
    Setting(
        "limit_train_pixels",
        64 * 1024 * 1024,
        "Most pixels in one picture to train on.",
        "单张训练图片的最大像素数。",
        4096,
        2**31,
    ),
    Setting(
        "limit_train_file_mb",
        64,
        "Most megabytes in one file of the data, unpacked.",
        "训练数据中单个文件（解压后）的最大 MB 数。",
        1,
        4096,
    ),
    Setting(
        "limit_train_archive_mb",
        4096,
        "Most megabytes in a zip of training data, unpacked.",
        "训练数据压缩包解压后的最大 MB 数。",
        1,
        10**6,
    ),
    Setting("limit_train_caption", 2000, "Most characters in a caption.", "单条标注的最多字符数。", 16, 100_000),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a training's data may be. Sizes in bytes."""

    pictures: int = 5000
    pixels: int = 64 * 1024 * 1024
    file: int = 64 * 2**20
    archive: int = 4096 * 2**20
    caption: int = 2000

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """As the settings have them."""
        return cls(
            pictures=settings.get_int("limit_train_pictures"),
            pixels=settings.get_int("limit_train_pixels"),
            file=settings.get_int("limit_train_file_mb") * 2**20,
            archive=settings.get_int("limit_train_archive_mb") * 2**20,
            caption=settings.get_int("limit_train_caption"),
        )
