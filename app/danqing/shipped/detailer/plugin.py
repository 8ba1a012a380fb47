"""The boxes."""

from __future__ import annotations

from collections.abc import Sequence

from danqing.plugins import Box, Script, hookimpl

SCRIPT = Script(
    "After detailer",
    "After-detailer (faces)",
    "面部细化",
    (
        Box("on", "Draw faces once more", "重绘面部", False),
        Box("prompt", "Prompt for faces (empty: as the picture)", "面部提示词（留空则与图片相同）", ""),
        Box("negative_prompt", "Negative prompt for faces", "面部反向提示词", ""),
        Box("strength", "Denoising strength", "重绘幅度", 0.4, 0.0, 1.0, 0.01),
        Box("padding", "Padding around a face (px)", "面部周围边距（像素）", 32, 0, 256, 4),
        Box("blur", "Mask blur", "蒙版模糊", 4, 0, 64, 1),
        Box("most", "Most faces", "最多面部数", 4, 1, 32, 1),
    ),
)


@hookimpl
def danqing_scripts() -> Sequence[Script]:
    return (SCRIPT,)
