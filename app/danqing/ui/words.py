"""Every word of the page, in English and in Chinese.

Fixed labels go to the browser as keys and are translated there (`label`); sentences that depend on what happens are built
here in the reader's language (`say`). `{name}` fields are filled from the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from danqing.errors import DanqingError, Language, chosen_language
from danqing.ui.words_control import CONTROL
from danqing.ui.words_desk import DESK
from danqing.ui.words_office import OFFICE
from danqing.ui.words_people import PEOPLE
from danqing.ui.words_scripts import SCRIPT_WORDS
from danqing.ui.words_shelves import SHELVES
from danqing.ui.words_training import TRAINING

PAGE: Mapping[str, tuple[str, str]] = {
    # Head of the page
    "tagline": ("Words become pictures", "以文作画"),
    "theme": ("Light or dark", "浅色 / 深色"),
    "to_text": ("Skip to the prompt", "跳到提示词"),
    # Prompt
    "prompt": ("Prompt", "提示词"),
    "prompt_hint": ("What do you want to see?", "想画什么？写在这里"),
    "negative_prompt": ("Negative prompt", "反向提示词"),
    "negative_hint": ("What should not be in the picture", "不希望画面里出现的内容"),
    "generate": ("Draw", "开始绘制"),
    "interrupt": ("Stop", "停止"),
    # Parameters
    "model": ("Model", "模型"),
    "refresh": ("Look for new models", "重新扫描模型"),
    "width": ("Width", "宽度"),
    "height": ("Height", "高度"),
    "swap": ("Swap width and height", "交换宽高"),
    "sampler": ("Sampler", "采样方法"),
    "scheduler": ("Schedule", "调度类型"),
    "automatic": ("Automatic", "自动"),
    "steps": ("Steps", "采样步数"),
    "cfg_scale": ("CFG scale", "提示词引导系数 (CFG)"),
    "cfg_info": ("How closely to follow the prompt", "数值越大越贴近提示词"),
    "seed": ("Seed", "随机种子"),
    "seed_hint": ("-1: a new one each time", "-1：每次随机"),
    "seed_random": ("Random seed", "随机"),
    "seed_reuse": ("Seed of the picture shown", "沿用当前图片的种子"),
    "batch_size": ("Batch size", "每批数量"),
    "n_iter": ("Batches", "批次数"),
    "clip_skip": ("CLIP skip", "跳过 CLIP 层数"),
    "eta": ("Eta", "Eta"),
    # Result
    "history": ("My pictures", "我的作品"),
    "history_empty": ("Your pictures will gather here.", "画好的作品会收在这里。"),
    "welcome": ("What shall we draw?", "今天画点什么？"),
    "welcome_more": (
        "Write a prompt and press Draw, or begin with one of these:",
        "写下提示词，点“开始绘制”；也可以从这里开始：",
    ),
    "download": ("Download", "下载"),
    "copy": ("Copy text", "复制参数"),
    "copied": ("Copied", "已复制"),
    "use": ("Use these settings", "使用这些参数"),
    "zoom": ("View large", "放大查看"),
    "close": ("Close", "关闭"),
    "previous": ("Previous picture", "上一张"),
    "next": ("Next picture", "下一张"),
    "no_prompt": ("without a prompt", "无提示词"),
    "parameters": ("How it was drawn", "生成参数"),
    # Progress
    "submitting": ("Handing it in…", "正在提交…"),
    "starting": ("The engine is warming up…", "引擎正在预热…"),
    "waiting_next": ("Next in line…", "即将开始…"),
    "waiting": ("{ahead} ahead of you in the queue", "排队中，前面还有 {ahead} 个任务"),
    "beginning": ("Reading the prompt…", "正在理解提示词…"),
    "step": ("Step {step} of {steps}", "第 {step} / {steps} 步"),
    "picture_of": ("picture {image} of {images}", "第 {image} / {images} 张"),
    "seconds_left": ("about {seconds} s left", "约剩 {seconds} 秒"),
    "minutes_left": ("about {minutes} min left", "约剩 {minutes} 分钟"),
    "almost": ("almost there", "马上就好"),
    "more_jobs": ("{count} more of yours are waiting", "另有 {count} 个任务在排队"),
    "drawing": ("Drawing", "正在绘制"),
    "done_one": ("Done in {seconds} s", "完成，用时 {seconds} 秒"),
    "done_many": ("{count} pictures in {seconds} s", "{count} 张图已完成，用时 {seconds} 秒"),
    "stopped": ("Stopped early; this is as far as it got", "已提前停止，这是停下时的画面"),
    "cancelled": ("Stopped before it began", "已取消，尚未开始绘制"),
    "failed": ("This one did not work out", "这张没有画成"),
    # Notices
    "error_title": ("That did not work", "出了点问题"),
    "nothing_to_reuse": ("There is no picture yet whose settings could be used.", "还没有可以沿用参数的图片。"),
    "logged_out": ("You are no longer logged in; on to the login…", "您已退出登录，正在前往登录页……"),
    "no_picture": (
        "That is no picture that can be read. Use PNG, JPEG or WebP.",
        "无法作为图片读取，请使用 PNG、JPEG 或 WebP。",
    ),
    "too_large": ("That file is larger than this server takes.", "文件超过了服务器允许的大小。"),
    "lost": ("The connection to the server was lost; trying again…", "与服务器的连接已断开，正在重新连接…"),
}

WORDS: Mapping[str, tuple[str, str]] = {
    **PAGE,
    **OFFICE,
    **PEOPLE,
    **DESK,
    **CONTROL,
    **SHELVES,
    **SCRIPT_WORDS,
    **TRAINING,
}
"""All words of the page."""


def label(key: str) -> Any:
    """A word for the browser to put in its own language; `key` must be in the table."""
    if key not in WORDS:
        raise KeyError(key)
    return gr.I18n()(key)


def say(key: str, language: Language, **params: object) -> str:
    """The sentence `key` in `language`, fields filled. Plain text: escape it before it becomes HTML."""
    return WORDS[key][language == "zh"].format_map(params)


def both(key: str) -> tuple[str, str]:
    """The word in English and in Chinese."""
    return WORDS[key]


def tables(more: Mapping[str, tuple[str, str]] | None = None) -> gr.I18n:
    """The whole table for the browser, with the words of plug-ins. Gradio falls back to English where a language is missing."""
    words = {**(more or {}), **WORDS}
    english = {key: pair[0] for key, pair in words.items()}
    chinese = {key: pair[1] for key, pair in words.items()}
    return gr.I18n(**{"en": english, "zh-CN": chinese, "zh-TW": chinese})


def language_of(accept_language: str | None) -> Language:
    """The language of the page for an Accept-Language header: Chinese when it comes first, as in the browser."""
    first = (accept_language or "").split(",")[0].strip().lower()
    return "zh" if first == "zh" or first.startswith(("zh-", "zh;", "zh_")) else "en"


def language_for(headers: Mapping[str, str]) -> Language:
    """The language of the page for whoever sent these headers: chosen there, else by the browser's."""
    return chosen_language(headers.get("cookie", "")) or language_of(headers.get("accept-language"))


def sentence(error: DanqingError, language: Language) -> str:
    """What `error` says, with the fields called as the page calls them."""
    field = error.params.get("field")
    if not isinstance(field, str) or field not in WORDS:
        return error.text(language)
    word = WORDS[field][language == "zh"]
    text = DanqingError(error.code, **{**error.params, "field": word}).text(language)
    # The table parts its fields from Chinese text by a space, as suits Latin names.
    return text.replace(f"{word} ", word, 1) if language == "zh" else text
