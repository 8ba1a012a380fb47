"""Words of the tabs beside the desk: gallery, models, settings, picture information; in English and in Chinese."""

from __future__ import annotations

from collections.abc import Mapping

SHELVES: Mapping[str, tuple[str, str]] = {
    "send_img2img": ("To image to image", "发送到图生图"),
    "send_inpaint": ("To inpaint", "发送到局部重绘"),
    "send_extras": ("To upscale", "发送到放大"),
    "send_txt2img": ("Use for text to image", "用于文生图"),
    "info_none": ("There are no parameters in this picture.", "这张图片里没有生成参数。"),
    "search": ("Search prompts, models, samplers…", "搜索提示词、模型、采样方法……"),
    "search_model": ("Model…", "模型……"),
    "since": ("From", "从"),
    "until": ("to", "到"),
    "more_pictures": ("Older pictures", "更早的作品"),
    "none_found": ("Nothing was found.", "没有找到。"),
    "select": ("Select", "选择"),
    "selected": ("selected", "张已选"),
    "download_zip": ("Download as zip", "打包下载"),
    "delete": ("Delete", "删除"),
    "deleted": ("deleted", "张已删除"),
    "undo": ("Undo", "撤销"),
    "favourite": ("Favourite", "收藏"),
    "only_favourites": ("Favourites only", "只看收藏"),
    "kind_checkpoint": ("Checkpoints", "基础模型"),
    "kind_vae": ("VAE", "VAE 模型"),
    "kind_lora": ("LoRA and LyCORIS", "LoRA 与 LyCORIS 模型"),
    "kind_embedding": ("Embeddings", "嵌入（Textual Inversion）"),
    "kind_hypernet": ("Hypernetworks", "超网络"),
    "kind_control": ("ControlNets", "ControlNet 模型"),
    "kind_upscaler": ("Upscalers", "放大模型"),
    "model_use": ("Use", "使用"),
    "model_name": ("Name", "名称"),
    "model_hash": ("Hash", "哈希"),
    "model_size": ("Size", "大小"),
    "model_note": ("Notes", "说明"),
    "model_none": ("None yet. Put files into {folder}.", "还没有。请把文件放入 {folder}。"),
    "upload": ("Upload a file", "上传文件"),
    "uploaded": ("Checked and in place: ", "已检查并就位："),
    "reset": ("Default", "恢复默认"),
    "search_settings": ("Search settings…", "搜索设置……"),
    "settings_note": (
        "They apply to your own pictures, at once, on the page and through the API.",
        "仅对您自己的作品立即生效，网页与接口通用。",
    ),
    "settings_whose": ("Whose settings", "谁的设置"),
    "settings_mine": ("Mine", "仅自己"),
    "settings_box": ("Everybody's defaults", "所有人的默认值"),
    "settings_box_note": (
        "They apply at once to everybody who has set nothing else.",
        "对没有另行设置的所有人立即生效。",
    ),
    "settings_service": ("The service", "服务"),
    "settings_service_note": (
        "What the whole box allows and how it works. What is set here counts from the next start of the service "
        "(System, Restart the service); what the machine's environment sets cannot be changed here.",
        "整台机器允许什么、如何运行。此处的设置在服务下次启动后生效（系统 → 重启服务）；由机器环境变量设定的不能在此更改。",
    ),
    "tokens": ("tokens", "个词元"),
    "browse_none": ("There is none on this machine yet.", "本机还没有这类模型。"),
    "browse_search": ("Search…", "搜索……"),
}
