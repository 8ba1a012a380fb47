"""Errors of the queue: its limits, the rules of the place, the disk that it lies on. Rows of `errors.KINDS`."""

from __future__ import annotations

QUEUE: tuple[tuple[str, int, str, str], ...] = (
    (
        "queue_full",
        429,
        "{count} jobs are waiting; the limit is {maximum}. Try again when some are done.",
        "已有 {count} 个任务在排队，上限是 {maximum} 个，请稍后再试。",
    ),
    (
        "disk_low",
        507,
        "Only {free_mb} MB are free on the disk. Delete pictures or enlarge it; when it is full, no more jobs are taken.",
        "磁盘仅剩 {free_mb} MB。请删除图片或扩大磁盘；磁盘写满后将不再接受新任务。",
    ),
    (
        "copy_failed",
        503,
        "Pictures cannot be copied to the bucket ({reason}). They are safe on this disk and are sent again by themselves.",
        "图片无法复制到存储桶（{reason}）。图片仍完好保存在本机磁盘上，之后会自动重试。",
    ),
    (
        "data_busy",
        503,
        "Another program holds the queue's file. Nothing was lost: try again when it is done.",
        "队列文件正被其他程序占用，内容没有丢失，请稍后重试。",
    ),
    (
        "too_many_jobs",
        429,
        "You have {count} jobs waiting or running; the limit is {maximum}. Try again when some are done.",
        "您已有 {count} 个任务在排队或运行，上限是 {maximum} 个，请稍后再试。",
    ),
    (
        "disk_full",
        507,
        "The disk is full ({free_mb} MB free). Delete pictures or enlarge the disk; nothing was lost.",
        "磁盘已满（剩余 {free_mb} MB）。请删除图片或扩大磁盘；内容没有丢失。",
    ),
    (
        "prompt_blocked",
        422,
        "The prompt holds “{word}”, which the owner of this service does not allow.",
        "提示词包含本服务所有者不允许的内容“{word}”。",
    ),
)
"""Code, HTTP status, English sentence, Chinese sentence."""
