"""Errors of training: its data, its settings, its results. Rows of `errors.KINDS`."""

from __future__ import annotations

TRAINING: tuple[tuple[str, int, str, str], ...] = (
    (
        "train_no_pictures",
        422,
        "{path} holds no picture that can be learned from ({reason}). PNG, JPEG, WebP and BMP can be read.",
        "{path} 中没有可用于训练的图片（{reason}）。支持 PNG、JPEG、WebP 和 BMP。",
    ),
    (
        "train_too_many_pictures",
        422,
        "{path} holds more than {maximum} pictures.",
        "{path} 中的图片超过 {maximum} 张。",
    ),
    (
        "train_picture_broken",
        422,
        "The picture {file} cannot be read: {reason}.",
        "图片 {file} 无法读取：{reason}。",
    ),
    (
        "train_picture_huge",
        422,
        "The picture {file} has {width}x{height} pixels; the limit is {maximum} pixels. Make it smaller.",
        "图片 {file} 为 {width}x{height} 像素，上限是 {maximum} 像素。请缩小后再用。",
    ),
    (
        "train_picture_small",
        422,
        "The picture {file} has {width}x{height} pixels and is enlarged for a training at {resolution}.",
        "图片 {file} 为 {width}x{height} 像素，按 {resolution} 训练时会被放大。",
    ),
    (
        "train_picture_twice",
        422,
        "The pictures {file} and {other} are the same or nearly so.",
        "图片 {file} 与 {other} 相同或几乎相同。",
    ),
    (
        "train_caption_long",
        422,
        "The caption of {file} has {length} characters; the limit is {maximum}.",
        "{file} 的标注有 {length} 个字符，上限是 {maximum} 个。",
    ),
    (
        "train_caption_broken",
        422,
        "The caption of {file} cannot be read: {reason}.",
        "{file} 的标注无法读取：{reason}。",
    ),
    (
        "train_archive",
        422,
        "The archive {file} was refused: {reason}.",
        "压缩包 {file} 被拒绝：{reason}。",
    ),
    (
        "train_name_taken",
        409,
        "{path} is there already and is never overwritten. Choose another name.",
        "{path} 已存在，不会被覆盖。请换一个名字。",
    ),
    (
        "train_family",
        422,
        "“{name}” cannot be trained: {reason}.",
        "无法训练“{name}”：{reason}。",
    ),
    (
        "train_needs",
        422,
        "{feature} needs {wanted}, which is not installed here. Choose another, or install it: {command}",
        "{feature} 需要 {wanted}，但此处没有安装。请另选，或安装：{command}",
    ),
    (
        "train_room",
        507,
        "This training takes about {needed_mb} MB (estimated) and the device has {free_mb} MB. {advice}",
        "此训练约需 {needed_mb} MB（估计值），而设备只有 {free_mb} MB。{advice}",
    ),
    (
        "train_memory",
        507,
        "The training ran out of memory at step {step}. Switch gradient checkpointing on, or make batch size, resolution or "
        "rank smaller; it goes on from the last saved state.",
        "训练在第 {step} 步耗尽内存。请开启梯度检查点，或减小批大小、分辨率或秩；训练会从上次保存的状态继续。",
    ),
    (
        "train_diverged",
        422,
        "The training gave no valid numbers any more at step {step}. Use a smaller learning rate or another precision.",
        "训练在第 {step} 步不再得到有效数值。请减小学习率或更换精度。",
    ),
    (
        "train_state_broken",
        422,
        "The saved state of this training cannot be read ({reason}). Start it anew.",
        "此训练保存的状态无法读取（{reason}）。请重新开始。",
    ),
    (
        "train_lost",
        503,
        "The training stopped {attempts} times at step {step} and was given up. Its state is kept: let it go on, or look into "
        "the worker's log.",
        "训练在第 {step} 步停止了 {attempts} 次，已放弃。其状态已保留：可继续训练，或查看训练日志。",
    ),
    (
        "train_data_unknown",
        404,
        "You have no training data “{name}”. There is: {known}. Data outside your own folder cannot be used.",
        "没有名为“{name}”的训练数据。现有：{known}。不能使用自己文件夹以外的数据。",
    ),
    (
        "train_file_gone",
        404,
        "The training has no file number {number}, or it is no longer where it was made.",
        "该训练没有第 {number} 号文件，或文件已不在原处。",
    ),
    (
        "train_unknown",
        404,
        "There is no training in {path}.",
        "{path} 中没有训练。",
    ),
    (
        "train_running",
        409,
        "This training is running already ({path}).",
        "此训练已在运行（{path}）。",
    ),
)
"""Code, HTTP status, English sentence, Chinese sentence."""
