"""Words of the administrators' tabs and of plug-ins: the machine, merging, fetching; in English and in Chinese."""

from __future__ import annotations

from collections.abc import Mapping

OFFICE: Mapping[str, tuple[str, str]] = {
    # Tabs
    "merge": ("Merge", "模型合并"),
    "plugins": ("Extensions", "扩展"),
    "system": ("System", "系统"),
    # The machine
    "system_now": ("Now", "当前状态"),
    "system_memory": ("Memory of the engine", "引擎内存"),
    "system_device_memory": ("GPU memory", "显存"),
    "system_load": ("Load of the processor", "处理器负载"),
    "system_device_load": ("Load of the GPU", "GPU 负载"),
    "system_queue": ("Jobs that wait or run", "排队与运行的任务"),
    "system_disk": ("Disk", "磁盘"),
    "system_device": ("Device", "设备"),
    "system_compiled": ("Networks", "网络"),
    "system_free": ("free", "可用"),
    "system_of": ("of", "共"),
    "system_waiting": ("waiting", "排队"),
    "system_running": ("running", "运行"),
    "system_pictures": ("Pictures since the start", "启动以来的图片"),
    "system_models": ("Models in memory", "内存中的模型"),
    "system_ready": ("Ready to draw", "可以绘制"),
    "system_not_ready": ("Not ready", "尚未就绪"),
    "system_paused": ("The queue is paused", "队列已暂停"),
    "system_log": ("Log of the service", "服务日志"),
    "system_follow": ("Follow", "跟随最新"),
    "system_versions": ("Versions", "版本"),
    "system_actions": ("Care", "维护"),
    "restart_engine": ("Restart the engine", "重启引擎"),
    "restart_engine_note": (
        "Loads the models anew. Pictures being drawn begin again by themselves.",
        "重新加载模型，正在绘制的图片会自动重新开始。",
    ),
    "restart_service": ("Restart the service", "重启服务"),
    "restart_service_note": (
        "The page comes back by itself within a minute; nothing in the queue is lost.",
        "网页会在一分钟内自动恢复，队列中的任务不会丢失。",
    ),
    "restart_sure": ("Restart now?", "现在重启？"),
    "restarting": ("It restarts…", "正在重启……"),
    "bundle": ("Download the support bundle", "下载诊断包"),
    "bundle_note": (
        "Log, versions, settings and state for whoever helps you. Passwords, prompts and pictures are not in it.",
        "供协助者使用的日志、版本、设置与状态，不含密码、提示词和图片。",
    ),
    # The allocator
    "allocator": ("GPU memory allocator", "显存分配器"),
    "allocator_note": (
        "How torch cuts up the GPU's memory. Change it when pictures fail for lack of memory although much is free: "
        "that is fragmentation. Applying restarts the engine.",
        "决定 torch 如何切分显存。若显存尚有大量空闲却提示不足，多为碎片所致，可在此调整。应用后会重启引擎。",
    ),
    "alloc_max_split_mb": (
        "Largest block that is split, MB (max_split_size_mb)",
        "可拆分的最大块，MB（max_split_size_mb）",
    ),
    "alloc_max_split_mb_note": (
        "0: no limit. 128 to 512 helps where sizes change often; smaller values cost a little speed.",
        "0 为不限。尺寸经常变化时可设 128 到 512；越小略慢。",
    ),
    "alloc_expandable": ("Segments that grow (expandable_segments)", "可扩展段（expandable_segments）"),
    "alloc_expandable_note": (
        "The best remedy where the driver supports it; then leave the block size at 0.",
        "驱动支持时效果最好，此时块大小保持 0 即可。",
    ),
    "alloc_collect_at": (
        "Give unused memory back from this share on (garbage_collection_threshold)",
        "占用达到此比例时归还空闲显存（garbage_collection_threshold）",
    ),
    "alloc_collect_at_note": ("0: never. 0.8 is usual.", "0 为从不，常用 0.8。"),
    "apply": ("Apply", "应用"),
    "applied": ("Applied; the engine restarts.", "已应用，引擎正在重启。"),
    "pinned": ("Set by this machine's environment", "由本机环境变量固定"),
    # Merging
    "merge_note": (
        "Makes a new checkpoint of two or three. It is written beside the others as .safetensors; the originals stay.",
        "用两个或三个模型合成新模型，以 .safetensors 写入模型文件夹，原模型保持不变。",
    ),
    "merge_a": ("Primary model (A)", "主模型 (A)"),
    "merge_b": ("Secondary model (B)", "次要模型 (B)"),
    "merge_c": ("Tertiary model (C)", "第三模型 (C)"),
    "merge_method": ("Method", "合并方式"),
    "merge_sum": ("Weighted sum: A × (1 − M) + B × M", "加权和：A × (1 − M) + B × M"),
    "merge_difference": ("Add difference: A + (B − C) × M", "差值叠加：A + (B − C) × M"),
    "merge_none": ("No interpolation: A as it is", "不插值：仅转换 A"),
    "merge_multiplier": ("Multiplier (M)", "倍率 (M)"),
    "merge_name": ("Name of the new model (empty: made of the others')", "新模型的名称（留空自动生成）"),
    "merge_precision": ("Number format", "数值精度"),
    "merge_keep": ("As the primary model", "与主模型相同"),
    "merge_vae": ("Bake in a VAE", "内置 VAE 模型"),
    "merge_config": ("Copy the configuration from", "配置文件来自"),
    "merge_any": ("The first that has one", "第一个带有配置的模型"),
    "merge_discard": ("Leave out tensors whose names match (regular expression)", "丢弃名称匹配的权重（正则表达式）"),
    "merge_copy": ("Copy the metadata", "复制元数据"),
    "merge_record": ("Write the recipe into the file", "把合并配方写入文件"),
    "merge_begin": ("Merge", "开始合并"),
    # Works
    "chores": ("Merging and fetching", "合并与下载任务"),
    "chore_merge": ("Merging", "合并"),
    "chore_fetch": ("Fetching", "下载"),
    "chore_waiting": ("waiting", "等待中"),
    "chore_running": ("running", "进行中"),
    "chore_done": ("done, {result}", "完成，{result}"),
    "chore_cancelled": ("Stopped", "已停止"),
    "chore_cancel": ("Stop", "停止"),
    # Models
    "manifest": ("Fetch models", "下载模型"),
    "manifest_note": (
        "Files that Danqing knows, with their licences. They are checked before they are used.",
        "丹青已知的模型文件及其许可证，校验无误后才会启用。",
    ),
    "manifest_no_hub": (
        "No model hub is set: only mirrors and the bucket are asked. Set model_hub to fetch from a hub.",
        "未设置模型站，仅从镜像与存储桶获取。请设置 model_hub 以便从模型站下载。",
    ),
    "manifest_accept": ("I have read the licences and accept them.", "我已阅读并接受这些许可证。"),
    "manifest_begin": ("Fetch what is chosen", "下载所选"),
    "manifest_there": ("on disk", "已在本机"),
    "manifest_license": ("Licence", "许可证"),
    "model_delete": ("Delete", "删除"),
    "model_deleted": ("Deleted: {name}", "已删除：{name}"),
    "model_preview": ("Take the picture shown as its preview", "以当前图片作预览"),
    # Plug-ins
    "plugins_note": (
        "What adds to Danqing. Folders go into plugins/ of the data folder, packages are installed with pip; only "
        "administrators can. Boxes and tabs of a new one appear after a restart of the service.",
        "为丹青增添功能。文件夹放入数据目录的 plugins/，软件包用 pip 安装，仅管理员可操作。"
        "新扩展的选项与标签页在重启服务后出现。",
    ),
    "plugins_look": ("Look for new ones", "扫描新扩展"),
    "plugin_shipped": ("comes with Danqing", "随丹青提供"),
    "plugin_folder": ("folder", "文件夹"),
    "plugin_package": ("package", "软件包"),
    "plugin_on": ("On", "启用"),
    "plugin_failed": ("Switched off because it failed: {reason}", "出错，已停用：{reason}"),
    # Presets
    "preset": ("Preset", "参数预设"),
    "preset_save": ("Keep all boxes as a preset", "把全部参数存为预设"),
    "preset_delete": ("Delete this preset", "删除该预设"),
    "preset_name": ("Name of the preset", "预设名称"),
}

PHASES: Mapping[str, tuple[str, str]] = {
    "engine": ("engine", "启动引擎"),
    "torch": ("PyTorch", "加载 PyTorch"),
    "model": ("model", "加载模型"),
    "warm-up": ("warm-up", "试笔"),
}
"""The parts of the engine's start, by their names."""
