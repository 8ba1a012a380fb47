"""Settings of the page."""

from __future__ import annotations

from danqing.settings import Setting

ROWS: tuple[Setting, ...] = (
    Setting(
        "page_language",
        "auto",
        "Language of the page for readers who chose none and whose browser asks for neither: zh or en; auto is en.",
        "读者未选择、浏览器也未要求中文或英文时网页的语言：zh 或 en；auto 为 en。",
        choices=("auto", "zh", "en"),
    ),
    Setting(
        "translate_with",
        "auto",
        "What translates Chinese prompts beyond the dictionary: model (in models/translation), amazon, dictionary (nothing); "
        "auto is the model where it is on disk. With amazon the words leave the machine.",
        "词典之外的中文提示词由谁翻译：model（models/translation 中的模型）、amazon、dictionary（不翻译）；"
        "auto 在模型就位时使用模型。选择 amazon 时文字会离开本机。",
        choices=("auto", "model", "amazon", "dictionary"),
    ),
    Setting(
        "translate_region",
        "",
        "AWS region of Amazon Translate; empty is the environment's.",
        "Amazon Translate 的 AWS 区域；留空则取环境设定。",
    ),
)
