"""Words of the ControlNet units' previews and editors, in English and in Chinese."""

from __future__ import annotations

from collections.abc import Mapping

CONTROL: Mapping[str, tuple[str, str]] = {
    "control_type": ("Control type", "控制类型"),
    "type_all": ("All", "全部"),
    "control_sketch": ("Draw by hand", "手绘草图"),
    "control_pose": ("Pose editor", "姿态编辑器"),
    "control_is_map": ("Already a map", "已是控制图"),
    "control_no_map": (
        "This preprocessor makes no map: the model reads the picture itself.",
        "此预处理器不生成控制图，模型会直接读取图片。",
    ),
    "control_map": ("What the model will see", "模型将看到的控制图"),
    "control_take_map": ("Use it as the control picture", "用作控制图"),
    "control_edit_pose": ("Edit this pose", "编辑此姿态"),
    "control_large": ("View large", "放大查看"),
    "control_working": ("The preprocessor is at work…", "正在预处理…"),
    # Both editors
    "edit_use": ("Use it", "使用"),
    "edit_undo": ("Undo", "撤销"),
    "edit_under": ("Show the picture underneath", "显示底图"),
    # Sketch
    "sketch_title": ("Draw a control picture", "手绘控制图"),
    "sketch_hint": (
        "White lines on black, as the scribble and edge models expect them.",
        "黑底白线，适用于涂鸦和线条类模型。",
    ),
    "sketch_pen": ("Pen", "画笔"),
    "sketch_rubber": ("Eraser", "橡皮"),
    "sketch_size": ("Width", "粗细"),
    "sketch_wipe": ("Clear all", "全部清除"),
    # Pose
    "pose_title": ("Pose editor", "姿态编辑器"),
    "pose_hint": (
        "Drag the joints, or move them with the arrow keys (Shift: farther; Delete: hide). Drag a limb to move the figure.",
        "拖动关节，或用方向键移动（按住 Shift 移得更远，Delete 隐藏）；拖动肢体可移动整个人物。",
    ),
    "pose_add": ("Add a figure", "添加人物"),
    "pose_remove": ("Remove figure", "移除人物"),
    "pose_bigger": ("Larger", "放大"),
    "pose_smaller": ("Smaller", "缩小"),
    "pose_mirror": ("Mirror", "左右翻转"),
    "pose_all": ("Show all joints", "显示全部关节"),
    "pose_detect": ("Find the pose in the picture", "从图片检测姿态"),
    "pose_open": ("Open JSON", "打开 JSON"),
    "pose_save": ("Save JSON", "保存 JSON"),
    "pose_bad": ("This file holds no pose in OpenPose's JSON.", "此文件不含 OpenPose JSON 格式的姿态。"),
    "pose_empty": ("There is no figure yet.", "还没有人物。"),
    "pose_none_found": ("No figure was found in the picture.", "图片中没有检测到人物。"),
    "pose_figure": ("Figure", "人物"),
    "joint_0": ("nose", "鼻子"),
    "joint_1": ("neck", "颈部"),
    "joint_2": ("right shoulder", "右肩"),
    "joint_3": ("right elbow", "右肘"),
    "joint_4": ("right wrist", "右腕"),
    "joint_5": ("left shoulder", "左肩"),
    "joint_6": ("left elbow", "左肘"),
    "joint_7": ("left wrist", "左腕"),
    "joint_8": ("right hip", "右髋"),
    "joint_9": ("right knee", "右膝"),
    "joint_10": ("right ankle", "右踝"),
    "joint_11": ("left hip", "左髋"),
    "joint_12": ("left knee", "左膝"),
    "joint_13": ("left ankle", "左踝"),
    "joint_14": ("right eye", "右眼"),
    "joint_15": ("left eye", "左眼"),
    "joint_16": ("right ear", "右耳"),
    "joint_17": ("left ear", "左耳"),
}

IN_BROWSER: tuple[str, ...] = tuple(
    key
    for key in CONTROL
    if key not in ("control_type", "type_all", "control_sketch", "control_pose", "control_is_map")
)
"""Those that the scripts in the browser say."""
