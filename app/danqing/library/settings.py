"""Settings of the models on disk: where weights come from, and who does long works."""

from __future__ import annotations

from danqing.settings import Setting

ROWS: tuple[Setting, ...] = (
    Setting(
        "model_hub",
        "",
        "Address of the model hub that weights are fetched from, or of a mirror; empty is HF_ENDPOINT's.",
        "下载权重所用的模型站或镜像地址；留空则取 HF_ENDPOINT。",
    ),
    Setting(
        "model_bucket",
        "",
        "s3://bucket/prefix that is asked for weights after all other sources.",
        "其他来源之后再询问的 s3://bucket/prefix。",
    ),
    Setting(
        "chores_external",
        False,
        "Merging and fetching are done by somebody else (systemd); the page only asks for them.",
        "合并与下载由外部（systemd）执行，网页只负责提出请求。",
    ),
)
