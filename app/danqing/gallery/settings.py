"""Settings of the gallery."""

from __future__ import annotations

from danqing.settings import Setting

ROWS: tuple[Setting, ...] = (
    Setting(
        "temporary_hours",
        24.0,
        "Pictures that their owner did not ask to save are removed after this many hours.",
        "未要求保存的图片在此小时数后删除。",
        0.01,
        24 * 3650,
    ),
    Setting(
        "limit_upload_pixels",
        64 * 1024 * 1024,
        "Most pixels in a picture that is handed in.",
        "上传图片的最大像素数。",
        4096,
        2**31,
    ),
    Setting(
        "input_hours",
        72.0,
        "Pictures that were handed in are removed after this many hours, unless a waiting job needs them.",
        "上传的图片在此小时数后删除，除非有排队的任务还需要它。",
        0.01,
        24 * 3650,
    ),
    Setting(
        "picture_days",
        0.0,
        "Saved pictures that are no favourites are removed after this many days; 0 keeps them for ever.",
        "未收藏的已保存图片在此天数后删除；0 表示永久保留。",
        0,
        36500,
    ),
    Setting(
        "trash_days",
        1.0,
        "Pictures that their owner has deleted can be brought back for this many days.",
        "用户删除的图片在此天数内可以恢复。",
        0,
        3650,
    ),
    Setting(
        "disk_warn_mb",
        2048,
        "A warning is given when less than this many MB are free on the disk.",
        "磁盘剩余空间低于此值（MB）时发出警告。",
        0,
        10**7,
    ),
    Setting(
        "label_embedded",
        False,
        "Pictures say in their metadata that AI made them: the AIGC fields of GB 45438-2025 and IPTC's digital source type. "
        "Whoever offers the service to the public in China has to turn this and the visible label on.",
        "在图片元数据中写入人工智能生成标识：GB 45438-2025 的 AIGC 字段与 IPTC 数字来源类型。"
        "在中国向公众提供服务时，须同时开启此项与显式标识。",
    ),
    Setting(
        "label_producer",
        "danqing",
        "ContentProducer of the embedded label: the code or the name of who offers the service.",
        "元数据标识中的 ContentProducer：服务提供者的编码或名称。",
    ),
    Setting(
        "label_visible",
        "off",
        "Words in a corner of every picture that say that AI made it: “AI生成” or “AI-generated”.",
        "在每张图片角落写上人工智能生成的显式标识：“AI生成”或“AI-generated”。",
        choices=("off", "zh", "en"),
    ),
    Setting(
        "c2pa_certificate",
        "",
        "PEM file of a certificate chain; pictures are signed with C2PA manifests then (needs c2pa-python). Empty: not signed.",
        "证书链的 PEM 文件；设置后图片带有 C2PA 签名清单（需要 c2pa-python）。空表示不签名。",
    ),
    Setting("c2pa_key", "", "PEM file of that certificate's private key.", "该证书私钥的 PEM 文件。"),
    Setting(
        "c2pa_algorithm",
        "es256",
        "Algorithm of that key.",
        "该私钥的算法。",
        choices=("es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"),
    ),
    Setting(
        "s3_bucket",
        "",
        "Saved pictures are also copied into this bucket, after they are on the disk (needs boto3, which the box has). "
        "Empty: they are not.",
        "保存的图片写入磁盘后再复制到此 S3 存储桶（需要 boto3，镜像自带）。空表示不复制。",
    ),
    Setting(
        "s3_prefix",
        "danqing/",
        "What the names of the copies begin with; the owner and the path below outputs/ follow.",
        "副本名称的前缀，其后为用户名与 outputs/ 下的路径。",
    ),
    Setting("s3_region", "", "The bucket's region; empty: the machine's.", "存储桶所在区域；空表示本机所在区域。"),
    Setting(
        "s3_endpoint",
        "",
        "Address of a store that speaks S3's language, such as https://oss-cn-hangzhou.aliyuncs.com; empty: AWS.",
        "兼容 S3 的存储服务地址，例如 https://oss-cn-hangzhou.aliyuncs.com；空表示 AWS。",
    ),
)
