"""The look: cinnabar and azurite on paper white or ink. System fonts only; the rest is `static/danqing.css`."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.themes.utils import colors, sizes

CINNABAR = colors.Color(
    c50="#fdf3f0",
    c100="#fbe3dc",
    c200="#f5c4b8",
    c300="#ec9d8a",
    c400="#df725a",
    c500="#cb4b33",
    c600="#b53a25",
    c700="#962d1c",
    c800="#7b281b",
    c900="#66251b",
    c950="#38100a",
    name="cinnabar",
)
AZURITE = colors.Color(
    c50="#f0f6fa",
    c100="#dceaf3",
    c200="#bcd6e8",
    c300="#8dbad7",
    c400="#5797c1",
    c500="#357aa8",
    c600="#27628d",
    c700="#204f73",
    c800="#1e4460",
    c900="#1d3a51",
    c950="#132536",
    name="azurite",
)
INK = colors.Color(
    c50="#fbf9f4",
    c100="#f4f0e8",
    c200="#e6e0d4",
    c300="#cfc7b8",
    c400="#a39b8d",
    c500="#78716a",
    c600="#57534e",
    c700="#3b3937",
    c800="#262628",
    c900="#1a1b1e",
    c950="#121316",
    name="ink",
)
SANS = (
    "ui-sans-serif",
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "sans-serif",
)
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Noto Sans Mono CJK SC", "monospace")


def theme() -> Any:
    """A fresh theme object."""
    base = gr.themes.Base(
        primary_hue=CINNABAR,
        secondary_hue=AZURITE,
        neutral_hue=INK,
        radius_size=sizes.radius_lg,
        spacing_size=sizes.spacing_md,
        text_size=sizes.text_md,
        font=SANS,
        font_mono=MONO,
    )
    return base.set(**_page(), **_blocks(), **_buttons())


def _page() -> dict[str, str]:
    return {
        "body_background_fill": "*neutral_50",
        "body_background_fill_dark": "*neutral_950",
        "body_text_color": "#211e1a",
        "body_text_color_dark": "#ece7dd",
        "body_text_color_subdued": "#69625a",
        "body_text_color_subdued_dark": "#a8a195",
        "background_fill_primary": "#fffefb",
        "background_fill_primary_dark": "*neutral_900",
        "background_fill_secondary": "*neutral_100",
        "background_fill_secondary_dark": "*neutral_800",
        "border_color_primary": "*neutral_200",
        "border_color_primary_dark": "#34353a",
        "border_color_accent": "*secondary_300",
        "border_color_accent_dark": "*secondary_600",
        "color_accent": "*secondary_600",
        "color_accent_soft": "*secondary_50",
        "color_accent_soft_dark": "*secondary_900",
        "link_text_color": "*secondary_600",
        "link_text_color_dark": "*secondary_300",
        "link_text_color_hover": "*secondary_700",
        "link_text_color_hover_dark": "*secondary_200",
    }


def _blocks() -> dict[str, str]:
    return {
        "block_background_fill": "transparent",
        "block_background_fill_dark": "transparent",
        "block_border_width": "0px",
        "block_border_width_dark": "0px",
        "block_shadow": "none",
        "block_shadow_dark": "none",
        "block_padding": "0",
        "block_radius": "*radius_md",
        "block_label_text_color": "*body_text_color_subdued",
        "block_label_text_color_dark": "*body_text_color_subdued",
        "block_title_text_color": "#544d45",
        "block_title_text_color_dark": "#beb7aa",
        "block_title_text_size": "*text_sm",
        "block_title_text_weight": "550",
        "block_info_text_size": "*text_xs",
        "form_gap_width": "0px",
        "layout_gap": "14px",
        "input_background_fill": "#fffefb",
        "input_background_fill_dark": "#1e1f23",
        "input_background_fill_focus": "#ffffff",
        "input_background_fill_focus_dark": "#212327",
        "input_border_color": "#ddd5c7",
        "input_border_color_dark": "#3a3b41",
        "input_border_color_focus": "*secondary_500",
        "input_border_color_focus_dark": "*secondary_400",
        "input_border_width": "1px",
        "input_shadow": "none",
        "input_shadow_focus": "0 0 0 3px rgb(53 122 168 / .18)",
        "input_shadow_focus_dark": "0 0 0 3px rgb(87 151 193 / .25)",
        "input_placeholder_color": "#989083",
        "input_placeholder_color_dark": "#7b766d",
        "slider_color": "*secondary_500",
        "slider_color_dark": "*secondary_400",
        "shadow_drop": "0 1px 2px rgb(60 45 25 / .06)",
        "shadow_drop_lg": "0 8px 30px rgb(60 45 25 / .12)",
    }


def _buttons() -> dict[str, str]:
    return {
        "button_primary_background_fill": "linear-gradient(180deg, #d4543b, #bf4129)",
        "button_primary_background_fill_dark": "linear-gradient(180deg, #cb4b33, #b23a25)",
        "button_primary_background_fill_hover": "linear-gradient(180deg, #dc5f46, #c9472e)",
        "button_primary_background_fill_hover_dark": "linear-gradient(180deg, #d75a42, #bd422b)",
        "button_primary_border_color": "transparent",
        "button_primary_border_color_dark": "transparent",
        "button_primary_text_color": "#ffffff",
        "button_primary_text_color_dark": "#ffffff",
        "button_primary_shadow": "0 1px 2px rgb(120 40 20 / .25)",
        "button_secondary_background_fill": "#fffefb",
        "button_secondary_background_fill_dark": "#232428",
        "button_secondary_background_fill_hover": "*neutral_100",
        "button_secondary_background_fill_hover_dark": "#2d2e33",
        "button_secondary_border_color": "#ddd5c7",
        "button_secondary_border_color_dark": "#3a3b41",
        "button_secondary_text_color": "*body_text_color",
        "button_secondary_text_color_dark": "*body_text_color",
        "button_border_width": "1px",
        "button_large_text_weight": "600",
        "button_small_text_weight": "500",
        "button_large_radius": "*radius_lg",
        "button_small_radius": "*radius_md",
    }
