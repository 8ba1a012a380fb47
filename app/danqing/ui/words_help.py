"""What each control does, as its tooltip says; in English and in Chinese. By the box's name."""

from __future__ import annotations

from collections.abc import Mapping

_DRAWING: Mapping[str, tuple[str, str]] = {
    "model": (
        "The checkpoint that draws. Another one brings its own size and guidance.",
        "用来绘制的基础模型；切换后会换成它适合的尺寸与引导系数。",
    ),
    "prompt": (
        "What to draw. Drop a picture here to take over its parameters.",
        "想画的内容。把图片拖到这里即可读取它的生成参数。",
    ),
    "negative_prompt": ("What to steer away from.", "希望避开的内容。"),
    "english": (
        "The translation that the model gets instead of your Chinese; change it as you like.",
        "实际送给模型的英文译文，可以直接修改。",
    ),
    "english_negative": ("The same for the negative prompt.", "反向提示词的英文译文，可以直接修改。"),
    "styles": (
        "Pieces of prompts kept under a name; those chosen are added when you draw.",
        "以名称保存的提示词片段，选中的会在绘制时加入。",
    ),
    "preset": ("All boxes kept under a name: choose one to fill them.", "以名称保存的全部参数，选择后填入各栏。"),
    "options_pasted": (
        "Settings in a pasted text that differ from yours; they hold for this drawing. Remove what you do not want.",
        "粘贴的参数中与您的设置不同的项，仅用于本次绘制；不需要的可移除。",
    ),
    "translate": (
        "Whether Chinese prompts are put into English first. Automatic: where the model reads English only.",
        "是否先把中文提示词译成英文。自动：仅当模型只懂英文时翻译。",
    ),
    "width": (
        "Pixels across. Best near the size that the model was trained on; larger needs Hires fix.",
        "图片宽度（像素）。接近模型训练尺寸时效果最好，更大请用高分辨率修复。",
    ),
    "height": ("Pixels down; see width.", "图片高度（像素），建议同宽度。"),
    "sampler": (
        "How noise becomes a picture. DPM++ 2M is quick and good; those with a in their name vary more.",
        "由噪声得到图片的算法。DPM++ 2M 又快又好；名称带 a 的变化更多。",
    ),
    "scheduler": (
        "How the noise is spread over the steps. Automatic: what suits the sampler.",
        "噪声在各步之间的分配。自动：选用适合该采样方法的一种。",
    ),
    "steps": (
        "How often the picture is refined: 20 to 30 are enough for most; time grows with them.",
        "逐步细化的次数，一般 20 到 30 即可；步数越多越慢。",
    ),
    "cfg_scale": (
        "How closely to follow the prompt: 5 to 9 as a rule; too high burns the colours.",
        "贴近提示词的程度，通常 5 到 9；过高会使色彩失真。",
    ),
    "seed": (
        "The number that the noise is made from. The same seed and settings draw the same picture.",
        "产生噪声的数字；种子与参数相同，画出的图也相同。",
    ),
    "variation_on": (
        "Small changes of a picture that you like: keep its seed and mix in another one.",
        "在喜欢的图上做小变化：保留种子，掺入另一个种子。",
    ),
    "subseed": ("The seed that is mixed in; -1: a new one each time.", "掺入的种子；-1 为每次随机。"),
    "subseed_strength": (
        "How much of it: 0 is the first seed's picture, 1 the second's.",
        "掺入的多少：0 为原种子的图，1 为变异种子的图。",
    ),
    "seed_resize_from_w": (
        "The width at which you found the seed, to keep the composition at another size; 0: off.",
        "当初得到该种子的宽度，换尺寸时保持构图；0 为关闭。",
    ),
    "seed_resize_from_h": ("The height at which you found it; 0: off.", "当初得到该种子的高度；0 为关闭。"),
    "batch_size": (
        "Pictures drawn at the same time; more need more memory.",
        "同时绘制的图片数量；越多占用显存越多。",
    ),
    "n_iter": ("How many batches one after the other.", "依次绘制多少批。"),
    "vae": (
        "What turns the model's latents into colours. Automatic: the model's own.",
        "把潜空间还原为颜色的模型。自动：用模型自带的。",
    ),
    "clip_skip": (
        "Stop reading the prompt so many layers before the end. Many anime models want 2.",
        "提前若干层结束对提示词的编码，许多动漫模型用 2。",
    ),
    "s_min_uncond": (
        "Saves time: below this sigma every second step goes without the negative prompt. 0: off.",
        "省时：低于该 sigma 时隔步省略反向提示词。0 为关闭。",
    ),
    "tiling": ("Edges that fit each other, for patterns.", "左右上下可无缝拼接，用于图案纹理。"),
    "restore_faces": ("Mends faces in the finished picture.", "修补成图中的面部。"),
}

_PASSES: Mapping[str, tuple[str, str]] = {
    "hires_on": (
        "Draws small first, then enlarges and refines: large pictures without doubled figures.",
        "先画小图再放大细化，画大图时不会出现重复的人物。",
    ),
    "hires_upscaler": (
        "What enlarges between the passes. Latent ones want a denoising strength above 0.5.",
        "两轮之间的放大方法；潜空间类需要 0.5 以上的重绘幅度。",
    ),
    "hires_steps": ("Steps of the second pass; 0: as many as the first.", "第二轮的步数；0 与首轮相同。"),
    "hires_denoise": (
        "How much the second pass may change: 0.3 refines, 0.7 draws anew.",
        "第二轮可改动的程度：0.3 为细化，0.7 近于重画。",
    ),
    "hires_scale": ("How many times larger.", "放大的倍数。"),
    "hires_resize_x": ("A width of your own instead of the factor; 0: unused.", "指定宽度以代替倍数；0 为不用。"),
    "hires_resize_y": ("A height of your own instead of the factor; 0: unused.", "指定高度以代替倍数；0 为不用。"),
    "hires_checkpoint": ("Another model for the second pass.", "第二轮改用另一个模型。"),
    "hires_sampler": ("Another sampler for the second pass.", "第二轮改用另一种采样方法。"),
    "hires_scheduler": ("Another schedule for the second pass.", "第二轮改用另一种调度。"),
    "hires_prompt": ("Another prompt for the second pass.", "第二轮改用另一段提示词。"),
    "hires_negative_prompt": ("Another negative prompt for the second pass.", "第二轮改用另一段反向提示词。"),
    "refiner_on": ("A second model draws the last steps.", "最后若干步换由另一个模型绘制。"),
    "refiner_checkpoint": ("The model of the last steps.", "绘制最后若干步的模型。"),
    "refiner_switch_at": ("After which share of the steps it takes over.", "在多少比例的步数之后换用。"),
}

_IMAGE: Mapping[str, tuple[str, str]] = {
    "denoise": (
        "How far the result may leave your picture: 0.3 keeps it, 0.75 uses its colours and shapes only.",
        "可偏离原图的程度：0.3 基本保持，0.75 只取其色彩与形状。",
    ),
    "resize_mode": (
        "What happens to a picture whose shape is not the one asked for.",
        "输入图片与设定的比例不同时如何处理。",
    ),
    "mask_blur": ("Softens the edge of the mask, in pixels.", "蒙版边缘柔化的像素数。"),
    "mask_invert": ("Whether the painted part or everything else is drawn anew.", "重绘涂抹的部分，还是其余的部分。"),
    "mask_fill": (
        "What the masked part begins with. Original for changes, noise for something new.",
        "蒙版区域的起始内容：修改用原图，换成新物体用潜空间噪声。",
    ),
    "mask_area": (
        "Only masked draws that part at full size and lays it back: good for small faces.",
        "仅蒙版区域会以完整尺寸重画该处再贴回，适合较小的面部。",
    ),
    "mask_padding": (
        "How much of the surroundings is seen with the masked part.",
        "重绘蒙版区域时参考多少周围画面。",
    ),
    "soft_on": ("Blends by how much each place changed, without a hard edge.", "按各处的变化程度融合，没有生硬边缘。"),
    "soft_power": ("Higher: the original holds longer.", "越大，原图保持得越久。"),
    "soft_scale": ("How strongly half-masked places keep the original.", "半遮处保留原图的强度。"),
    "soft_detail": ("Keeps contrast where both are mixed.", "在融合处保持对比。"),
    "soft_mask_influence": ("How much the mask itself counts when blending.", "融合时蒙版本身的影响。"),
    "soft_difference_threshold": ("How much has to change before a place counts as new.", "变化多少才算新内容。"),
    "soft_difference_contrast": ("How sharply old and new are parted.", "新旧内容区分的锐利程度。"),
}

_EXTRAS: Mapping[str, tuple[str, str]] = {
    "extras_mode": ("By a factor, or to a size in pixels.", "按倍数，或放大到指定像素。"),
    "extras_resize": ("How many times larger.", "放大的倍数。"),
    "extras_width": ("Pixels across of the result.", "结果的宽度（像素）。"),
    "extras_height": ("Pixels down of the result.", "结果的高度（像素）。"),
    "extras_crop": ("Cuts off what does not fit the size.", "裁去超出尺寸的部分。"),
    "extras_upscaler_1": (
        "What enlarges. Models (ESRGAN and others) invent detail.",
        "放大方法；ESRGAN 等模型会补出细节。",
    ),
    "extras_upscaler_2": ("A second one, mixed in.", "掺入的第二种放大方法。"),
    "extras_visibility": ("How much of the second is mixed in.", "第二种所占的比重。"),
    "extras_gfpgan": ("How much of GFPGAN's faces is laid over; 0: off.", "叠加 GFPGAN 修复面部的程度；0 为关闭。"),
    "extras_codeformer": (
        "How much of CodeFormer's faces is laid over; 0: off.",
        "叠加 CodeFormer 修复面部的程度；0 为关闭。",
    ),
    "extras_weight": ("0 mends most, 1 stays closest to the face as it is.", "0 修复最强，1 最接近原来的面部。"),
}

_CONTROL: Mapping[str, tuple[str, str]] = {
    "control_on": ("Lets a picture steer pose, edges or depth.", "用一张图控制姿势、边缘或深度。"),
    "control_type": ("Narrows both lists below to one kind of control.", "把下面两个列表限定为一种控制类型。"),
    "control_module": (
        "Turns your picture into the map that the model reads. None: it is a map already.",
        "把图片转换为模型可读的控制图。无：图片本身已是控制图。",
    ),
    "control_model": (
        "The network that reads the map; it must suit the checkpoint.",
        "读取控制图的网络，须与基础模型相配。",
    ),
    "control_weight": ("How strongly it steers; 1 is usual.", "控制的强度，通常为 1。"),
    "control_start": ("From which share of the steps on.", "从多少比例的步数开始介入。"),
    "control_end": (
        "Up to which share; less than 1 leaves the end free.",
        "到多少比例的步数为止；小于 1 则最后自由发挥。",
    ),
    "control_mode": ("Whether prompt or picture wins where they disagree.", "提示词与控制图冲突时以谁为准。"),
    "control_resize": ("What happens when its shape is another one.", "控制图比例不同时如何处理。"),
    "control_hires": ("In the first pass, the hires pass, or both.", "作用于首轮、高清轮或两者。"),
    "control_res": ("At how many pixels the preprocessor works.", "预处理时的像素尺寸。"),
    "control_a": (
        "First number of the preprocessor, for example Canny's lower threshold.",
        "预处理的第一个数值，如 Canny 的低阈值。",
    ),
    "control_b": (
        "Second number of the preprocessor, for example Canny's upper threshold.",
        "预处理的第二个数值，如 Canny 的高阈值。",
    ),
    "control_perfect": ("The preprocessor works at the size of the drawing.", "预处理尺寸与出图尺寸一致。"),
}

HELP: Mapping[str, tuple[str, str]] = {**_DRAWING, **_PASSES, **_IMAGE, **_EXTRAS, **_CONTROL}
"""`control_` stands for the boxes of every unit."""
