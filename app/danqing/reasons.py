"""Reasons inside errors, in Chinese: what pydantic and our own checks say of a value, sentence by sentence.

A reason travels in English, as whoever checked said it. What stands in no row here (a library's own words) stays as it is.
"""

from __future__ import annotations

import re

ROWS: tuple[tuple[str, str], ...] = (
    # pydantic
    (r"Field required", "必须提供"),
    (r"('.*') is neither auto nor like (\S+)", r"\1 既不是 auto，也不是 \2 这样的尺寸"),
    (r"Extra inputs are not permitted", "不是已知的字段"),
    (r"Input should be a valid integer, got a number with a fractional part", "应为整数，不能带小数"),
    (r"Input should be a valid integer, unable to parse string as an integer", "应为整数"),
    (r"Unable to parse input string as an integer, exceeded maximum size", "数字过长"),
    (r"Input should be a valid integer", "应为整数"),
    (r"Input should be a valid number, unable to parse string as a number", "应为数字"),
    (r"Input should be a valid number", "应为数字"),
    (r"Input should be a finite number", "应为有限的数字"),
    (r"Input should be a valid boolean, unable to interpret input", "应为 true 或 false"),
    (r"Input should be a valid boolean", "应为 true 或 false"),
    (r"Input should be a valid string", "应为文本"),
    (r"Input should be a valid (?:list|tuple|array)", "应为列表"),
    (r"Input should be a valid dictionary(?: or object to extract fields from)?", "应为对象"),
    (r"Input should be a valid dictionary or instance of \w+", "应为对象"),
    (r"Input should be an object", "应为对象"),
    (r"Input should be None", "应为空"),
    (r"Input should be greater than or equal to (\S+)", r"应不小于 \1"),
    (r"Input should be less than or equal to (\S+)", r"应不大于 \1"),
    (r"Input should be greater than (\S+)", r"应大于 \1"),
    (r"Input should be less than (\S+)", r"应小于 \1"),
    (r"Input should be a multiple of (\S+)", r"应为 \1 的倍数"),
    (r"Input should be (.+) or (\S+)", r"应为 \1 或 \2"),
    (r"Input should be ('.*'|\d+)", r"应为 \1"),
    (r"String should match pattern (.+)", r"格式应符合 \1"),
    (r"String should have at least (\d+) characters?", r"至少 \1 个字符"),
    (r"String should have at most (\d+) characters?", r"最多 \1 个字符"),
    (
        r"(?:List|Tuple|Dictionary) should have at least (\d+) items? after validation, not (\d+)",
        r"至少 \1 项，实为 \2 项",
    ),
    (
        r"(?:List|Tuple|Dictionary) should have at most (\d+) items? after validation, not (.+)",
        r"最多 \1 项，实为 \2 项",
    ),
    (r"JSON decode error", "不是有效的 JSON"),
    (r"Invalid JSON: .*", "不是有效的 JSON"),
    (r"(?:Value|Assertion) error, (.*)", r"\1"),
    # ours
    (r"one of (.+)", r"可选：\1"),
    (r"known: (.+)", r"可选：\1"),
    (r"JSON object", "应为 JSON 对象"),
    (r"one JSON object of texts", "应为一个值均为文本的 JSON 对象"),
    (r"args must be a list", "args 应为列表"),
    (r"base64 texts?", "应为 base64 文本"),
    (r"true or false", "应为 true 或 false"),
    (r"one picture", "只能是一张图片"),
    (r"more than batch_size \((\d+)\)", r"多于 batch_size（\1）"),
    (r"empty", "为空"),
    (r"is missing", "缺失"),
    (r"no model hub is set; add --hub (\S+), or the address of a mirror", r"未设置模型站；请加 --hub \1，或镜像的地址"),
    (r"must not be null", "不能为 null"),
    (r"it is not UTF-8", "不是 UTF-8 文本"),
    (r"it holds NUL characters", "含有 NUL 字符"),
    (r"is after guidance_end", "晚于 guidance_end"),
    (r"hires fix needs one, 0 to 1", "高分辨率修复需要一个 0 到 1 的值"),
    (r"there is no setting of this name", "没有此名称的设置"),
    (r"(.+) is not between (\S+) and (\S+)", r"\1 不在 \2 与 \3 之间"),
    (r"(.+) is not one of (.+)", r"\1 不在可选值之中：\2"),
    (r"(.+) is not of type (\w+)", r"\1 的类型不是 \2"),
    (r"(.+) is neither true nor false", r"\1 既不是 true 也不是 false"),
    (r"is not among the settings of this page", "不在此页的设置之中"),
    (r"is set by (DANQING_\w+)", r"由 \1 设定"),
    (r"(.+) is no colour", r"\1 不是颜色"),
    (r"nested deeper than (\d+)", r"嵌套超过 \1 层"),
    (r"more than (\d+) pixels", r"超过 \1 像素"),
    (r"(\d+x\d+) is more than (\d+) pixels", r"\1 超过 \2 像素"),
    (r"it is none of ([A-Z, ]+)", r"不是 \1 中的任何一种格式"),
    (r"it claims far too many pixels", "声称的像素过多"),
    (r"in the line (.+)", r"位于这一行：\1"),
    (r"no embedding in this picture", "图片中没有嵌入"),
    (r"it is a folder in diffusers' layout", "这是 diffusers 格式的文件夹"),
    (r"the file grew shorter while it was read", "读取过程中文件变短"),
    (r"the folder holds no weights", "文件夹中没有权重"),
    (r"it holds no running means \(EMA\)", "其中没有 EMA 权重"),
    (r"it is a link, not a file", "这是链接而不是文件"),
    (r"it is neither a folder nor a zip", "既不是文件夹也不是 zip"),
    (r"there is no such folder or zip any more", "文件夹或 zip 已不存在"),
    (r"no such folder", "没有这个文件夹"),
    (r"(\[[\d, ]*\]) and (\[[\d, ]*\])", r"形状 \1 与 \2 不一致"),
    (
        r"one with (\d+) input channels \(inpainting, instruct-pix2pix or depth\) must be A, the primary model",
        r"有 \1 个输入通道的模型（重绘、instruct-pix2pix 或深度）必须作为 A，即主模型",
    ),
)
"""Whole English reasons, as regular expressions, and what they say in Chinese."""


def in_chinese(reason: str) -> str:
    """The reason in Chinese where it is known."""
    for pattern, chinese in ROWS:
        match = re.fullmatch(pattern, reason, re.DOTALL)
        if match is not None:
            made = match.expand(chinese)
            return in_chinese(made) if made != reason and pattern.startswith("(?:Value") else made
    return reason
