"""Settings of the queue and of the engine's process."""

from __future__ import annotations

from danqing.settings import Setting

ROWS: tuple[Setting, ...] = (
    Setting(
        "engine_jobs_in_flight",
        32,
        "Most jobs that the engine works on at once; an owner who has none there may have one beyond that.",
        "引擎同时处理的最多任务数；没有任务在引擎中的用户可再多一个。",
        1,
        1024,
    ),
    Setting(
        "engine_external",
        False,
        "The engine is started by somebody else (systemd); only connect to it.",
        "引擎由外部（systemd）启动，本程序只负责连接。",
    ),
    Setting(
        "engine_socket",
        "",
        "The engine's Unix socket; empty means DATA/run/engine.sock.",
        "引擎的 Unix 套接字；空表示 DATA/run/engine.sock。",
    ),
    Setting(
        "engine_attempts",
        3,
        "A job is given up when the engine has died this many times while drawing it.",
        "绘制同一任务时引擎停止达到此次数后放弃该任务。",
        1,
        100,
    ),
    Setting(
        "engine_restart_seconds",
        0.25,
        "Wait before a dead engine is started again; doubles up to 15 s while it keeps dying.",
        "引擎停止后重新启动前的等待秒数；反复停止时加倍，最多 15 秒。",
        0.01,
        15,
    ),
    Setting(
        "engine_connect_seconds",
        120.0,
        "An engine that does not open its socket within this time is started again.",
        "引擎在此秒数内没有打开套接字则重新启动。",
        1,
        3600,
    ),
    Setting(
        "engine_hang_seconds",
        600.0,
        "An engine that says nothing for this long, as in a forward pass that never ends, is killed and started again.",
        "引擎超过此秒数没有任何响应（例如前向计算不再结束）则被终止并重新启动。",
        0.1,
        86400,
    ),
    Setting("limit_queue", 1000, "Most jobs that may wait at once.", "最多排队任务数。", 1, 10**6),
    Setting(
        "limit_jobs_per_owner",
        500,
        "Most jobs of one owner that may wait or run at once.",
        "每个用户最多同时排队或运行的任务数。",
        1,
        10**6,
    ),
    Setting(
        "queue_weights",
        "",
        "Shares of owners who get more or less than others: li=2, bot=0.5. All others have 1.",
        "份额与众不同的用户，例如 li=2, bot=0.5；其他用户为 1。",
    ),
    Setting(
        "disk_reserve_mb",
        200,
        "New jobs are refused when less than this many MB are free on the disk.",
        "磁盘剩余空间低于此值（MB）时拒绝新任务。",
        0,
        10**7,
    ),
    Setting(
        "disk_tries",
        4,
        "A job whose picture cannot be stored for lack of space is drawn again this many times in all before it fails.",
        "因磁盘已满无法保存图片时，任务总共尝试此次数后失败。",
        1,
        100,
    ),
    Setting(
        "disk_wait_seconds",
        10.0,
        "Wait before a job that met a full disk is tried again; doubles with every try.",
        "遇到磁盘已满的任务重试前的等待秒数；每次加倍。",
        0.01,
        3600,
    ),
    Setting(
        "job_days",
        30.0,
        "Jobs that are over are forgotten after this many days; their pictures stay.",
        "已结束的任务在此天数后从记录中删除，图片保留。",
        0.01,
        36500,
    ),
)
