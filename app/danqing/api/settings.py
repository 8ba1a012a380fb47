"""Settings of the doors: listening, logins, limits of requests, logging."""

from __future__ import annotations

from danqing.settings import Setting

ROWS: tuple[Setting, ...] = (
    Setting(
        "allowed_hosts",
        "",
        "More host names, with commas between, that a server on loopback answers to; * is any (only with a login).",
        "监听本机地址时额外接受的主机名，逗号分隔；* 表示任意（仅在需要登录时有效）。",
    ),
    Setting(
        "proxy_addresses",
        "",
        "Addresses, with commas between, of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.",
        "可信代理的地址，逗号分隔；只相信它们的 X-Forwarded-For 和 X-Forwarded-Proto。",
    ),
    Setting(
        "cors_origins",
        "",
        "Origins, with commas between, such as https://example.org, whose pages may use this server from a browser.",
        "允许其网页在浏览器中使用本服务的来源，逗号分隔，例如 https://example.org。",
    ),
    Setting("session_hours", 336.0, "A login ends after this many hours.", "登录在此小时数后失效。", 0.01, 24 * 3650),
    Setting(
        "login_free_tries",
        5,
        "Failed logins from one address before it has to wait.",
        "同一地址在需要等待之前允许的登录失败次数。",
        1,
        1000,
    ),
    Setting(
        "login_wait_most",
        300,
        "Longest wait in seconds after many failed logins; it doubles from one second.",
        "多次登录失败后的最长等待秒数；从一秒开始加倍。",
        1,
        86400,
    ),
    Setting(
        "limit_requests_a_second",
        50.0,
        "Requests a second of one login, or of one address without a login; 20 seconds' worth may come at once. 0 is no bound.",
        "每个登录（未登录时为每个地址）每秒的请求数；可一次性突发 20 秒的量。0 表示不限。",
        0,
        10**6,
    ),
    Setting(
        "url_inputs",
        False,
        "Requests may name pictures by http:// or https:// addresses; never of private networks, and without redirects.",
        "允许请求用 http:// 或 https:// 地址指定图片；绝不访问内网地址，也不跟随重定向。",
    ),
    Setting(
        "webhooks",
        False,
        "Jobs of /v1 may name an address that is told when they are over; never of a private network.",
        "允许 /v1 的任务指定结束时通知的地址（webhook）；绝不访问内网地址。",
    ),
    Setting(
        "share_days_most",
        30.0,
        "Longest life in days of a link to a shared picture; 0 allows no links.",
        "分享链接的最长有效天数；0 表示不允许分享。",
        0,
        3650,
    ),
    Setting(
        "oidc_issuer",
        "",
        "Address of an OpenID Connect provider, such as https://id.example.org; empty offers no such login.",
        "OpenID Connect 提供方的地址，例如 https://id.example.org；留空则不提供此登录方式。",
    ),
    Setting(
        "oidc_client", "", "Client id at the OpenID Connect provider.", "在 OpenID Connect 提供方登记的客户端 ID。"
    ),
    Setting(
        "oidc_secret_file",
        "",
        "File with the client's secret; empty for a public client, which PKCE alone protects.",
        "存放客户端密钥的文件；公开客户端（仅由 PKCE 保护）留空。",
    ),
    Setting(
        "oidc_new_users",
        False,
        "Whoever the OpenID Connect provider knows becomes an artist at the first login; else an administrator adds them first.",
        "OpenID Connect 提供方认识的人首次登录时自动成为画师；否则须先由管理员添加。",
    ),
    Setting(
        "oidc_origin",
        "",
        "This server's own address as people open it, such as https://draw.example.org; empty takes the request's.",
        "用户打开本服务所用的地址，例如 https://draw.example.org；留空则取自请求。",
    ),
    Setting(
        "limit_body_mb",
        256,
        "Most megabytes in the body of one request.",
        "单个请求正文的最大兆字节数。",
        1,
        65536,
    ),
    Setting(
        "api_server_stop",
        False,
        "Administrators may end the server with POST /sdapi/v1/server-stop, server-kill and server-restart.",
        "允许管理员通过 POST /sdapi/v1/server-stop、server-kill 和 server-restart 停止服务。",
    ),
    Setting(
        "shutdown_seconds",
        5,
        "Requests under way have this long to end when the server is told to stop.",
        "停止服务时，正在处理的请求最多可用的秒数。",
        0,
        3600,
    ),
    Setting(
        "engine_command",
        "",
        "Another program in the engine's place, as a shell would read it; --socket PATH is added.",
        "代替引擎的程序（按 shell 规则书写），会加上 --socket PATH。",
    ),
    Setting("log_format", "console", "Form of the log.", "日志格式。", choices=("console", "json")),
    Setting(
        "log_level", "info", "Lowest level logged.", "最低日志级别。", choices=("debug", "info", "warning", "error")
    ),
    Setting(
        "log_requests",
        "changes",
        "Which requests get a line in the log: those that may change something or were refused, all, or none.",
        "为哪些请求写日志：changes 为可能更改内容或被拒绝的请求，all 为全部，off 为不写。",
        choices=("off", "changes", "all"),
    ),
)
