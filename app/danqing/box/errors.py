"""What can go wrong on a box, and what to do about it. Apart from the rows of `danqing.errors`, which are the API's."""

from __future__ import annotations

from collections.abc import Mapping

from danqing.errors import DanqingError, ErrorKind, ParamValue

MEND = 2
FAILED = 1


def _rows(*rows: tuple[str, int, str, str]) -> dict[str, ErrorKind]:
    return {row[0]: ErrorKind(*row) for row in rows}


KINDS: Mapping[str, ErrorKind] = _rows(
    ("not_root", MEND, "This needs root: sudo danqing box {command}", "需要 root 权限：sudo danqing box {command}"),
    (
        "no_volume",
        FAILED,
        "Data volume {volume} did not appear within {seconds} s. Attach it to this machine and run: "
        "systemctl restart danqing-firstboot danqing.target",
        "数据卷 {volume} 在 {seconds} 秒内没有出现。请把它挂接到本机，然后运行：systemctl restart "
        "danqing-firstboot danqing.target",
    ),
    (
        "volume_foreign",
        MEND,
        "{device} holds {found}, not Danqing's data. It is left alone; take another volume, or label an ext4 one: "
        "e2label {device} danqing-data",
        "{device} 中是 {found}，不是丹青的数据，未作改动。请换一个卷，或为 ext4 卷加标签：e2label {device} "
        "danqing-data",
    ),
    ("tool_failed", FAILED, "{tool} failed: {reason}", "{tool} 失败：{reason}"),
    (
        "not_answering",
        FAILED,
        "Danqing did not get ready within {seconds} s ({state}). Look: danqing box doctor; danqing box logs",
        "丹青在 {seconds} 秒内没有就绪（{state}）。请查看：danqing box doctor；danqing box logs",
    ),
    ("picture_failed", FAILED, "No picture came back from {model}: {reason}", "{model} 没有画出图片：{reason}"),
    (
        "password_unknown",
        MEND,
        "The password came with the data volume and its text is not on this machine. Use the one you know, or "
        "make a new one: "
        "sudo danqing box password --reset",
        "密码随数据卷而来，本机没有明文。请使用您已知的密码，或重新生成：sudo danqing box password --reset",
    ),
    (
        "password_weak",
        MEND,
        "The password must have at least {least} characters.",
        "密码至少要有 {least} 个字符。",
    ),
    (
        "compile_failed",
        FAILED,
        "Not everything could be compiled ({reason}). Danqing goes on drawing without; try again: danqing box compile",
        "未能完成编译（{reason}）。丹青继续以未编译方式绘图；可重试：danqing box compile",
    ),
    ("no_list", MEND, "There is no prefetch list at {path}.", "{path} 没有预取清单。"),
    (
        "backup_broken",
        MEND,
        "{path} is no backup of Danqing, or damaged: {reason}.",
        "{path} 不是丹青的备份，或已损坏：{reason}。",
    ),
    (
        "backup_newer",
        MEND,
        "{path} comes from a newer Danqing (database version {found}, this one knows {known}). Restore it there.",
        "{path} 来自更新版本的丹青（数据库版本 {found}，本程序支持到 {known}）。请在新版本上恢复。",
    ),
    (
        "data_not_empty",
        MEND,
        "{path} already has pictures or jobs. --force sets them aside in {aside} first.",
        "{path} 中已有图片或任务。加 --force 会先把它们移到 {aside}。",
    ),
    (
        "in_use",
        MEND,
        "Danqing is running on {path}. Stop it first: sudo systemctl stop danqing.target",
        "丹青正在使用 {path}。请先停止：sudo systemctl stop danqing.target",
    ),
    (
        "no_room",
        FAILED,
        "{path} has {free_mb} MB free; this needs {wanted_mb} MB.",
        "{path} 剩余 {free_mb} MB，需要 {wanted_mb} MB。",
    ),
)


class BoxError(DanqingError):
    """An error of `KINDS` above."""

    def __init__(self, code: str, /, **params: ParamValue) -> None:
        self.kind = KINDS[code]
        self.params = params
        Exception.__init__(self, self.text("en"))
