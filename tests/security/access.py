"""Who may do what: the table that docs/security.md shows and `test_isolation` holds every route against.

The first row whose method and path fit counts; `*` at the end of a path fits anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

VISITORS: Mapping[str, tuple[str, str]] = {
    "nobody": ("no login", "未登录"),
    "metrics": ("token, metrics", "令牌 metrics"),
    "read": ("token, read", "令牌 read"),
    "draw": ("token, draw", "令牌 draw"),
    "program": ("user, api", "用户 api"),
    "other": ("another artist", "另一位画师"),
    "admin": ("administrator", "管理员"),
    "owner": ("owner (artist)", "所有者（画师）"),
}
"""In the order that they try a route: the owner, who may take the thing away, comes last. Tokens are the owner's."""

IN = 0
"""Let in: neither 401, 403 nor, where something has an owner, 404."""

REFUSED = {"nobody": 401}
PEOPLE = ("program", "other", "admin", "owner")


def _needs(**more: int) -> dict[str, int]:
    return {**dict.fromkeys(VISITORS, IN), **REFUSED, **more}


NEEDS: Mapping[str, dict[str, int]] = {
    "open": dict.fromkeys(VISITORS, IN),
    "look": _needs(metrics=403),
    "own": _needs(metrics=403, program=404, other=404, admin=404),
    "act": _needs(metrics=403, read=403),
    "act on own": _needs(metrics=403, read=403, program=404, other=404, admin=404),
    "act on own, or steer": _needs(metrics=403, read=403, program=404, other=404),
    "train": _needs(metrics=403, read=403, draw=403),
    "of a training": {**_needs(), **dict.fromkeys(("read", "draw", *PEOPLE), 404), "metrics": 403},
    "act on a training": {
        **dict.fromkeys(PEOPLE, 404),
        **dict.fromkeys(("metrics", "read", "draw"), 403),
        "nobody": 401,
    },
    "person": _needs(metrics=403, read=403, draw=403),
    "person on own": _needs(metrics=403, read=403, draw=403, program=404, other=404, admin=404),
    "numbers": _needs(read=403, draw=403, program=403, other=403, owner=403),
    "steer": _needs(metrics=403, read=403, draw=403, program=403, other=403, owner=403),
    "steer, off": _needs(metrics=403, read=403, draw=403, program=403, other=403, owner=403, admin=404),
    "page": _needs(metrics=403, read=403, draw=403, program=403),
    "page, own": _needs(metrics=403, read=403, draw=403, program=403, other=404, admin=404),
    "page, steer": _needs(metrics=403, read=403, draw=403, program=403, other=403, owner=403),
    "page, nothing": _needs(metrics=403, read=403, draw=403, program=403, other=403, admin=403, owner=403),
    "closed": _needs(metrics=403, read=403, draw=403, program=403, other=404, admin=404, owner=404),
    "way out": _needs(),
}


@dataclass(frozen=True)
class Row:
    """Some routes and what they need."""

    methods: str
    path: str
    need: str
    en: str = ""
    zh: str = ""

    def fits(self, method: str, path: str) -> bool:
        return method in self.methods.split() and fnmatchcase(path, self.path.replace("[", "[[]"))


ROWS: tuple[Row, ...] = (
    Row("GET POST", "/login", "open", "the login page", "登录页"),
    Row("GET", "/login/oidc", "open", "to the OpenID Connect provider", "前往 OpenID Connect 提供方"),
    Row("GET", "/login/oidc/back", "open", "and back, once", "返回，仅一次有效"),
    Row("GET", "/shared/{secret}", "open", "whoever has the link", "持有链接的任何人"),
    Row("GET", "/healthz", "open", "ok, nothing else", "仅 ok"),
    Row("GET", "/readyz", "open", "bare; warnings to who is logged in", "仅阶段信息；登录后含警告"),
    Row("GET POST", "/logout", "way out"),
    Row("GET", "/metrics", "numbers"),
    Row("GET HEAD", "/openapi.json", "look"),
    Row("GET", "/docs", "look"),
    Row("GET", "/redoc", "look"),
    Row("GET", "/pictures/{picture_id}", "own"),
    Row("POST", "/sdapi/v1/server-*", "steer, off", "404 while api_server_stop is off", "api_server_stop 关闭时为 404"),
    Row(
        "GET HEAD OPTIONS",
        "/sdapi/v1/*",
        "look",
        "progress speaks of the caller's jobs only",
        "进度只涉及调用者自己的任务",
    ),
    Row(
        "POST PUT PATCH DELETE",
        "/sdapi/v1/*",
        "act",
        "interrupt and skip reach the caller's jobs only",
        "中断与跳过只作用于自己的任务",
    ),
    Row("GET HEAD OPTIONS", "/controlnet/*", "look"),
    Row("POST PUT PATCH DELETE", "/controlnet/*", "act"),
    Row("GET HEAD OPTIONS", "/internal/*", "look"),
    Row("POST PUT PATCH DELETE", "/internal/*", "act"),
    Row("GET HEAD OPTIONS", "/sd_extra_networks/*", "look"),
    Row("POST PUT PATCH DELETE", "/sd_extra_networks/*", "act"),
    Row("GET", "/v1/jobs", "look", "the caller's", "仅调用者自己的"),
    Row("POST", "/v1/jobs", "act"),
    Row("GET", "/v1/jobs/{job_id}", "own"),
    Row("DELETE", "/v1/jobs/{job_id}", "act on own, or steer"),
    Row("GET", "/v1/jobs/{job_id}/events", "own"),
    Row("POST", "/v1/jobs/{job_id}/place", "act on own, or steer"),
    Row("POST", "/v1/jobs/{job_id}/priority", "steer"),
    Row(
        "GET",
        "/v1/queue",
        "look",
        "all jobs for administrators, else one's own",
        "管理员可见全部任务，其他人仅见自己的",
    ),
    Row("POST", "/v1/queue/*", "steer"),
    Row("GET", "/v1/engine", "look"),
    Row("GET", "/v1/images/{picture_id}", "own"),
    Row("POST DELETE", "/v1/images/{picture_id}/share", "act on own"),
    Row("PUT DELETE", "/v1/images/{picture_id}/favourite", "act on own"),
    Row("GET", "/v1/favourites", "look", "the caller's", "仅调用者自己的"),
    Row("GET", "/v1/export", "look", "the caller's", "仅调用者自己的"),
    Row("GET", "/v1/models*", "look"),
    Row("POST", "/v1/images/*", "act"),
    Row("GET", "/v1/training/presets", "look"),
    Row("POST", "/v1/training/estimate", "train", "scope train", "范围 train"),
    Row("GET", "/v1/datasets*", "look", "the caller's", "仅调用者自己的"),
    Row("POST PUT DELETE", "/v1/datasets/*", "train", "the caller's; scope train", "仅调用者自己的；范围 train"),
    Row("GET", "/v1/jobs/{job_id}/training", "of a training", "here of a job that is none", "此处任务并非训练"),
    Row("GET", "/v1/jobs/{job_id}/samples/{number}", "of a training", "here of a job that is none", "此处任务并非训练"),
    Row("GET", "/v1/jobs/{job_id}/files/{number}", "of a training", "here of a job that is none", "此处任务并非训练"),
    Row("POST", "/v1/jobs/{job_id}/pause", "act on a training", "here of a job that is none", "此处任务并非训练"),
    Row("POST", "/v1/jobs/{job_id}/resume", "act on a training", "here of a job that is none", "此处任务并非训练"),
    Row("GET", "/v1/account", "person"),
    Row("POST", "/v1/account/password", "person"),
    Row("DELETE", "/v1/account/sessions", "person"),
    Row("DELETE", "/v1/account/sessions/{session_id}", "person on own"),
    Row("GET POST", "/v1/tokens", "person"),
    Row("DELETE", "/v1/tokens/{token_id}", "person on own"),
    Row(
        "GET POST PATCH DELETE",
        "/v1/users*",
        "steer",
        "with a password or a session, not with a token",
        "须用密码或会话，不能用令牌",
    ),
    Row("GET HEAD OPTIONS", "/v1/{rest:path}", "look", "nothing there", "不存在的路径"),
    Row("POST PUT PATCH DELETE", "/v1/{rest:path}", "act", "nothing there", "不存在的路径"),
    Row("GET", "/ui/inputs/{name}", "page, own"),
    Row("POST", "/ui/send", "page, own"),
    Row("POST", "/ui/like", "page, own"),
    Row("GET", "/ui/models/preview/*", "page"),
    Row("GET", "/ui/plugins", "page"),
    *(
        Row("GET POST", f"/ui/{path}", "page, steer")
        for path in ("uploads/*", "models/*", "merge*", "manifest*", "chores*", "plugins*", "system*")
    ),
    Row(
        "GET HEAD",
        "/gradio_api/file*",
        "page, nothing",
        "but the page's own temporary files, by the hash of their content",
        "页面自身的临时文件除外（按内容哈希寻址）",
    ),
    Row(
        "GET HEAD POST",
        "/gradio_api/vibe*",
        "closed",
        "parts of Gradio that the page does not use",
        "页面不使用的 Gradio 功能",
    ),
    Row("POST", "/gradio_api/undo-vibe*", "closed"),
    Row("GET HEAD", "/gradio_api/proxy*", "closed"),
    Row("POST", "/gradio_api/process_recording", "closed"),
    Row("GET", "/gradio_api/dev/*", "closed"),
    Row("GET POST", "/gradio_api/upload*", "closed"),
    Row("GET", "/gradio_api/deep_link", "closed"),
    Row("GET", "/monitoring*", "closed"),
    Row("GET HEAD POST", "*", "page", "the page", "网页"),
)


def row_of(method: str, path: str) -> Row:
    """
    Raises:
        AssertionError: for a route that nobody has thought of.
    """
    for row in ROWS:
        if row.fits(method, path):
            return row
    raise AssertionError(f"{method} {path} is not in the table")


def cell(outcome: int) -> str:
    return "✓" if outcome == IN else str(outcome)


def table(chinese: bool) -> list[tuple[str, ...]]:
    """The rows of the documents."""
    return [
        (
            f"`{row.methods.replace(' ', ', ')} {row.path}`",
            *(cell(NEEDS[row.need][name]) for name in VISITORS),
            row.zh if chinese else row.en,
        )
        for row in ROWS
    ]
