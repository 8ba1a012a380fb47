"""Errors of the files that a box draws with: models, networks, ControlNets, upscalers, annotators. Rows of `errors.KINDS`."""

from __future__ import annotations

FILES: tuple[tuple[str, int, str, str], ...] = (
    (
        "unknown_model",
        404,
        "There is no model “{name}”. Put the file into {folder} or choose one of: {known}.",
        "没有名为“{name}”的模型。请把文件放入 {folder}，或从中选择：{known}。",
    ),
    (
        "no_model",
        503,
        "No model is on disk. Put a Stable Diffusion checkpoint into {folder}.",
        "磁盘上没有模型。请把 Stable Diffusion 模型放入 {folder}。",
    ),
    ("model_broken", 422, "The model file “{name}” cannot be used: {reason}.", "模型文件“{name}”无法使用：{reason}。"),
    (
        "model_unsafe",
        422,
        "The model file “{name}” was refused because it could run code: {reason}.",
        "模型文件“{name}”可能执行代码，已拒绝：{reason}。",
    ),
    (
        "adapter_broken",
        422,
        "The network file “{name}” cannot be used: {reason}.",
        "网络文件“{name}”无法使用：{reason}。",
    ),
    (
        "adapter_misfit",
        422,
        "The network “{name}” is not made for the model “{model}”: {reason}. Choose another network or model.",
        "网络“{name}”与模型“{model}”不匹配：{reason}。请换一个网络或模型。",
    ),
    (
        "adapter_partly",
        422,
        "{count} of {total} layers of the network “{name}” are not in the model “{model}” or of an unknown kind; the picture was "
        "drawn without them.",
        "网络“{name}”的 {total} 层中有 {count} 层不在模型“{model}”中或类型未知，图片未使用这些层。",
    ),
    (
        "network_absent",
        404,
        "There is no {kind} “{name}”; the picture was drawn without it.",
        "没有名为“{name}”的 {kind}，图片未使用它。",
    ),
    (
        "network_strength",
        422,
        "A strength of the {kind} “{name}” is not a number; the picture was drawn without it.",
        "{kind}“{name}”的强度不是数字，图片未使用它。",
    ),
    (
        "embedding_misfit",
        422,
        "The embedding “{name}” is not made for the model “{model}”; its name was read as words.",
        "嵌入“{name}”不适用于模型“{model}”，其名称被当作普通文字。",
    ),
    ("missing_picture", 422, "A picture is missing: {field}.", "缺少图片：{field}。"),
    (
        "unknown_control",
        422,
        "There is no ControlNet “{name}” in {folder}. There are: {known}.",
        "{folder} 中没有 ControlNet“{name}”。可用的有：{known}。",
    ),
    (
        "control_broken",
        422,
        "The ControlNet “{name}” cannot be used: {reason}.",
        "ControlNet“{name}”无法使用：{reason}。",
    ),
    (
        "control_misfit",
        422,
        "The ControlNet “{name}” is not made for the model “{model}”: {reason}. Choose another ControlNet or model.",
        "ControlNet“{name}”与模型“{model}”不匹配：{reason}。请换一个 ControlNet 或模型。",
    ),
    (
        "image_encoder_missing",
        422,
        "“{name}” reads pictures with a CLIP image encoder of {what} {width}. There is none in {folder}; put one there.",
        "“{name}”需要 {what} 为 {width} 的 CLIP 图像编码器，而 {folder} 中没有；请把文件放到那里。",
    ),
    (
        "control_type_unknown",
        422,
        "“{name}” must be told what kind of map it is shown; “{kind}” is none of: {known}. Set union_control_type.",
        "“{name}”需要指明控制图的类型，“{kind}”不在其中：{known}。请设置 union_control_type。",
    ),
    (
        "control_without_picture",
        422,
        "Control unit {unit} has no picture to go by.",
        "控制单元 {unit} 没有图片。",
    ),
    (
        "unknown_preprocessor",
        422,
        "There is no preprocessor “{name}”. There are: {known}.",
        "没有名为“{name}”的预处理器。可用的有：{known}。",
    ),
    (
        "preprocessor_absent",
        422,
        "The preprocessor “{name}” is not built into this version. Of its kind there are: {known}.",
        "此版本没有内置预处理器“{name}”。同类可用的有：{known}。",
    ),
    (
        "preprocessor_without_map",
        422,
        "The preprocessor “{name}” makes no map: the model itself reads the picture.",
        "预处理器“{name}”不生成控制图：模型直接读取图片。",
    ),
    (
        "annotator_missing",
        422,
        "The preprocessor “{name}” needs the file {file}. To fetch it: {command}",
        "预处理器“{name}”需要文件 {file}。下载方法：{command}",
    ),
    (
        "map_out_of_memory",
        507,
        "There is no memory for the preprocessor “{name}” at the moment; try again later or with a lower resolution.",
        "暂时没有足够的内存运行预处理器“{name}”，请稍后再试，或降低分辨率。",
    ),
    (
        "annotator_broken",
        422,
        "The file {file} of the preprocessor “{name}” cannot be used: {reason}.",
        "预处理器“{name}”的文件 {file} 无法使用：{reason}。",
    ),
    (
        "unknown_script",
        422,
        "There is no script “{name}”. Known scripts: {known}.",
        "没有名为“{name}”的脚本。可用的有：{known}。",
    ),
    ("translation_failed", 502, "The translation did not work: {reason}.", "翻译未能完成：{reason}。"),
    ("unknown_preset", 404, "There is no preset “{name}”.", "没有名为“{name}”的预设。"),
    ("unknown_chore", 404, "There is no work “{chore}”.", "没有这项工作：“{chore}”。"),
    (
        "unknown_plugin",
        404,
        "There is no plug-in “{name}”. Known plug-ins: {known}.",
        "没有名为“{name}”的插件。可用的有：{known}。",
    ),
    (
        "plugin_failed",
        500,
        "The plug-in “{name}” failed and was switched off: {reason}.",
        "插件“{name}”出错，已停用：{reason}。",
    ),
    (
        "unknown_upscaler",
        422,
        "There is no upscaler “{name}”. Known upscalers: {known}.",
        "没有名为“{name}”的放大算法。可用的有：{known}。",
    ),
    (
        "upscaler_missing",
        422,
        "The upscaler “{name}” needs the file {file} in {folder}.",
        "放大算法“{name}”需要把文件 {file} 放入 {folder}。",
    ),
    (
        "files_missing",
        422,
        "{feature} needs {files} in {folder}.",
        "{feature} 需要把 {files} 放入 {folder}。",
    ),
    (
        "interrogator_missing",
        422,
        "The interrogator “{name}” needs {files} in {folder}. To fetch: {command}",
        "识别模型“{name}”需要把 {files} 放入 {folder}。下载方法：{command}",
    ),
    (
        "manifest_broken",
        422,
        "The model manifest {file} is wrong at {where}: {reason}.",
        "模型清单 {file} 的 {where} 处有误：{reason}。",
    ),
    (
        "weights_missing",
        1,
        "{name} could not be fetched from any of its sources: {reason}. Try again: what is there already is kept.",
        "{name} 无法从任何来源下载：{reason}。请重试，已下载的部分会保留。",
    ),
    (
        "weights_wrong",
        1,
        "What {source} gave for {name} is not what the manifest describes ({reason}); it was thrown away.",
        "{source} 提供的 {name} 与模型清单不符（{reason}），已丢弃。",
    ),
    (
        "weights_room",
        2,
        "The weights take {needed_mb} MB and only {free_mb} MB are free at {path}. Enlarge the disk or choose fewer groups.",
        "模型需要 {needed_mb} MB，而 {path} 只剩 {free_mb} MB。请扩大磁盘或少选几组模型。",
    ),
    (
        "weights_licence",
        2,
        "The licences of these weights have to be accepted first: {licences}. Read them (danqing.library.fetch --list), "
        "then add --accept-licences.",
        "需要先接受这些模型的许可证：{licences}。请阅读（danqing.library.fetch --list），然后加上 --accept-licences。",
    ),
    (
        "nan_picture",
        422,
        "The model “{name}” gave no valid numbers for this picture. Try another model or VAE, or leave out its networks.",
        "模型“{name}”没有算出有效的数值。请换一个模型或 VAE，或去掉 LoRA 等网络。",
    ),
)
"""Code, HTTP status, English sentence, Chinese sentence."""
