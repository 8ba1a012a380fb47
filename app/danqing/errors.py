"""Every error a person or a program can meet: code, HTTP status, one English and one Chinese sentence.

A sentence says what was wrong and what would work. `{name}` fields are filled from the error's parameters.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from danqing.error_files import FILES
from danqing.error_queue import QUEUE
from danqing.error_training import TRAINING

Language = Literal["en", "zh"]
ParamValue = str | int | float


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One row of the table. `status` is the HTTP status that the API answers with."""

    code: str
    status: int
    en: str
    zh: str


def _rows(*rows: tuple[str, int, str, str]) -> dict[str, ErrorKind]:
    return {row[0]: ErrorKind(*row) for row in rows}


KINDS: Mapping[str, ErrorKind] = _rows(
    (
        "internal",
        500,
        "Something went wrong here ({reference}). The service goes on; please try again.",
        "服务内部出错（{reference}），服务仍在运行，请重试。",
    ),
    ("invalid_field", 422, "{field}: {reason}.", "{field}：{reason}。"),
    ("not_a_number", 422, "{field} must be a finite number.", "{field} 必须是有限的数字。"),
    ("not_whole", 422, "{field} is {value}; it must be a whole number.", "{field} 为 {value}，必须是整数。"),
    (
        "out_of_range",
        422,
        "{field} is {value}; it must lie between {minimum} and {maximum}.",
        "{field} 为 {value}，应在 {minimum} 到 {maximum} 之间。",
    ),
    (
        "not_multiple",
        422,
        "{field} is {value}; it must be a multiple of {multiple}.",
        "{field} 为 {value}，应为 {multiple} 的倍数。",
    ),
    (
        "too_many_pixels",
        422,
        "{width}x{height} is more than the limit of {maximum} pixels a picture.",
        "{width}x{height} 超过每张图 {maximum} 像素的上限。",
    ),
    (
        "too_many_images",
        422,
        "{count} pictures in one job; the limit is {maximum}.",
        "一次任务要画 {count} 张图，上限是 {maximum} 张。",
    ),
    (
        "text_too_long",
        422,
        "{field} has {length} characters; the limit is {maximum}.",
        "{field} 有 {length} 个字符，上限是 {maximum} 个。",
    ),
    (
        "prompt_chunks",
        422,
        "A prompt falls into {count} chunks of 75 tokens; the limit is {maximum}. Shorten it, or take out some BREAK.",
        "提示词被分成 {count} 个 75 词元的分块，上限是 {maximum} 个。请缩短提示词或去掉一些 BREAK。",
    ),
    (
        "broken_text",
        422,
        "{field} holds broken characters (unpaired surrogates or NUL) and cannot be stored.",
        "{field} 含有损坏的字符（不成对的代理项或空字符），无法保存。",
    ),
    (
        "unknown_sampler",
        422,
        "There is no sampler “{name}”. Known samplers: {known}.",
        "没有名为“{name}”的采样方法。可用的有：{known}。",
    ),
    (
        "unknown_scheduler",
        422,
        "There is no schedule “{name}”. Known schedules: {known}.",
        "没有名为“{name}”的调度类型。可用的有：{known}。",
    ),
    *FILES,
    *TRAINING,
    *QUEUE,
    (
        "out_of_memory",
        507,
        "This picture does not fit into memory. {width}x{height} in batches of {fits} would fit.",
        "这张图超出了内存。{width}x{height}、每批 {fits} 张可以画出。",
    ),
    (
        "engine_not_ready",
        503,
        "The engine is still starting. Nothing is lost: try again in a few seconds.",
        "引擎正在启动，内容不会丢失，请几秒后重试。",
    ),
    (
        "engine_lost",
        503,
        "The engine stopped {attempts} times while drawing this and the job was given up.",
        "绘制这张图时引擎停止了 {attempts} 次，任务已放弃。",
    ),
    (
        "engine_down",
        503,
        "The engine stopped ({reason}) and is being started again (start {tries}). Jobs wait; the log says more.",
        "引擎已停止（{reason}），正在重新启动（第 {tries} 次）。任务会继续排队，详情见日志。",
    ),
    (
        "driver_too_old",
        503,
        "The NVIDIA driver {driver} is too old for this build of torch (CUDA {cuda} needs {wanted} or newer). "
        "Install a newer driver and reboot, or bake the image on this base (make ami picks the build that fits its driver).",
        "NVIDIA 驱动 {driver} 对此 torch 版本过旧（CUDA {cuda} 需要 {wanted} 或更新）。请安装更新的驱动并重启，"
        "或在此基础镜像上重新制作镜像（make ami 会选择与驱动匹配的版本）。",
    ),
    (
        "gpu_broken",
        503,
        "There is a GPU ({name}, driver {driver}) but a CUDA operation failed: {reason}. Reboot; if it stays, "
        "stop and start the machine, which moves it to other hardware.",
        "检测到显卡（{name}，驱动 {driver}），但 CUDA 运算失败：{reason}。请重启；若仍失败，"
        "停止再启动机器即可更换硬件。",
    ),
    ("cancelled", 409, "The job was cancelled.", "任务已取消。"),
    ("unknown_job", 404, "There is no job “{job}”.", "没有任务“{job}”。"),
    ("unknown_picture", 404, "There is no picture “{picture}”.", "没有图片“{picture}”。"),
    ("broken_image", 422, "The picture cannot be read: {reason}.", "图片无法读取：{reason}。"),
    (
        "body_too_large",
        413,
        "The request has {size} bytes; the limit is {maximum}.",
        "请求有 {size} 字节，上限是 {maximum} 字节。",
    ),
    ("not_logged_in", 401, "Please log in.", "请先登录。"),
    ("wrong_password", 401, "Wrong user name or password.", "用户名或密码错误。"),
    ("wrong_token", 401, "This token is not known here or was revoked.", "此令牌不存在或已被吊销。"),
    (
        "unknown_token",
        2,
        "There is no token “{token}”. List them with danqing token list.",
        "没有令牌“{token}”。可用 danqing token list 查看。",
    ),
    (
        "not_allowed",
        403,
        "This login may not do that: it lacks the scope {scope}.",
        "此登录没有权限 {scope}，不能执行该操作。",
    ),
    (
        "page_closed",
        403,
        "This login is for programs: it opens the API, not the page.",
        "此登录仅供程序使用：可以调用接口，不能打开网页。",
    ),
    ("unknown_user", 404, "There is no user “{name}”.", "没有用户“{name}”。"),
    ("user_exists", 409, "There is a user “{name}” already.", "已有用户“{name}”。"),
    (
        "last_admin",
        409,
        "That would leave no administrator. Make another one first.",
        "这样将没有任何管理员。请先设置另一位管理员。",
    ),
    (
        "weak_password",
        422,
        "The password is too short; it needs {least} characters or more.",
        "密码过短，至少需要 {least} 个字符。",
    ),
    (
        "oidc_failed",
        403,
        "The login through {issuer} did not work: {reason}.",
        "通过 {issuer} 登录失败：{reason}。",
    ),
    (
        "too_many_requests",
        429,
        "Too many requests. Try again in {seconds} seconds.",
        "请求过多，请 {seconds} 秒后再试。",
    ),
    (
        "url_refused",
        422,
        "The address {url} is not fetched: {reason}.",
        "不会读取地址 {url}：{reason}。",
    ),
    (
        "webhook_refused",
        422,
        "The webhook {url} is refused: {reason}.",
        "webhook 地址 {url} 被拒绝：{reason}。",
    ),
    (
        "webhooks_off",
        403,
        "Webhooks are switched off on this box. Ask its administrator for the setting webhooks, or wait at "
        "GET /v1/jobs/ID/events.",
        "本机未启用 webhook。请管理员打开设置 webhooks，或改用 GET /v1/jobs/ID/events 等待结果。",
    ),
    (
        "key_reused",
        409,
        "The Idempotency-Key was used for another request. Send a new key.",
        "该 Idempotency-Key 已用于另一个请求，请换一个。",
    ),
    (
        "server_unreachable",
        1,
        "{url} does not answer: {reason}.",
        "{url} 没有应答：{reason}。",
    ),
    ("server_refused", 2, "{url} answered {status}: {reason}", "{url} 返回 {status}：{reason}"),
    ("server_failed", 1, "{url} answered {status}: {reason}", "{url} 返回 {status}：{reason}"),
    ("job_failed", 1, "The job {job} ended without a picture: {reason}", "任务 {job} 没有画出图片：{reason}"),
    (
        "bad_row",
        2,
        "{path}, line {line}: {reason}.",
        "{path} 第 {line} 行：{reason}。",
    ),
    (
        "too_many_logins",
        429,
        "Too many failed logins. Try again in {seconds} seconds.",
        "登录失败次数过多，请 {seconds} 秒后再试。",
    ),
    (
        "wrong_origin",
        403,
        "The request came from another site ({origin}) and was refused.",
        "请求来自其他网站（{origin}），已拒绝。",
    ),
    ("wrong_host", 400, "The host name “{host}” is not one of this service.", "主机名“{host}”不属于本服务。"),
    (
        "not_available",
        422,
        "{feature} is not available in this version.",
        "此版本尚不支持 {feature}。",
    ),
    ("unknown_route", 404, "There is nothing at {path}.", "{path} 不存在。"),
    (
        "stopping",
        503,
        "The server is stopping. The job is kept and will be drawn after the next start.",
        "服务正在停止。任务已保存，下次启动后会继续绘制。",
    ),
    (
        "proxied",
        403,
        "The request came through a proxy, but no login is asked here. Start with --users login.",
        "请求经过代理转发，而本服务没有登录保护。请用 --users login 启动。",
    ),
    (
        "login_required",
        2,
        "Listening on {host} needs a login: drop --users open.",
        "在 {host} 上监听必须登录：请去掉 --users open。",
    ),
    (
        "port_taken",
        2,
        "Port {port} on {host} is taken. Choose another with --port.",
        "{host} 的端口 {port} 已被占用，请用 --port 换一个。",
    ),
    (
        "cannot_listen",
        2,
        "Cannot listen on {host}, port {port}: {reason}.",
        "无法在 {host} 的端口 {port} 上监听：{reason}。",
    ),
    ("cannot_read", 2, "Cannot read {path}: {reason}.", "无法读取 {path}：{reason}。"),
    ("cannot_write", 2, "Cannot write {path}: {reason}.", "无法写入 {path}：{reason}。"),
    (
        "file_exists",
        2,
        "{path} is there already. Choose another name or add --overwrite.",
        "{path} 已存在。请换一个名字或加上 --overwrite。",
    ),
    (
        "merge_lacks",
        422,
        "The method “{method}” needs {count} checkpoints.",
        "“{method}”需要 {count} 个模型。",
    ),
    (
        "merge_misfit",
        422,
        "The checkpoints do not go together at {name}: {reason}.",
        "模型无法合并或转换，问题在 {name}：{reason}。",
    ),
    (
        "not_webui",
        2,
        "{path} is no WebUI folder: it has neither models, embeddings nor styles.csv.",
        "{path} 不是 WebUI 的目录：其中没有 models、embeddings 或 styles.csv。",
    ),
    ("no_infotext", 2, "{path} holds no infotext.", "{path} 中没有生成参数。"),
    (
        "foreign_infotext",
        2,
        "{path} was made with {program} and holds its settings in that program's form; --json shows them.",
        "{path} 由 {program} 生成，其中的参数是该软件自己的格式；加 --json 可查看。",
    ),
    (
        "data_locked",
        2,
        "Another Danqing is using {path}. Stop it or choose another --data.",
        "另一个丹青正在使用 {path}。请先停止它，或换一个 --data。",
    ),
    (
        "data_newer",
        2,
        "{path} was written by a newer Danqing (version {found}, this one knows {known}). Use that one or "
        "another --data.",
        "{path} 由更新版本的丹青写入（版本 {found}，本程序支持到 {known}）。请使用新版本，或换一个 --data。",
    ),
    (
        "data_broken",
        2,
        "{path} is damaged ({reason}). Move it away to start with an empty queue; the pictures stay.",
        "{path} 已损坏（{reason}）。把它移走即可从空队列开始，图片不受影响。",
    ),
    ("bad_setting", 2, "Setting {name}: {reason}.", "设置 {name}：{reason}。"),
)


def language_of(accept: str) -> Language:
    """Chinese when an Accept-Language header puts it before English."""
    for part in accept.lower().split(","):
        tag = part.split(";")[0].strip()
        if tag.startswith(("zh", "en")):
            return "zh" if tag.startswith("zh") else "en"
    return "en"


LANGUAGE_COOKIE = "danqing_language"
"""What the reader chose on the page ("zh", "en"), or the box's own choice with ".box" behind it."""


def chosen_language(cookies: str) -> Language | None:
    """The language that a Cookie header says, None where it says none."""
    for pair in cookies.split(";"):
        name, _, value = pair.strip().partition("=")
        word = value.strip('"').partition(".")[0]
        if name == LANGUAGE_COOKIE and word in ("zh", "en"):
            return "zh" if word == "zh" else "en"
    return None


def language_of_headers(headers: Mapping[str, str]) -> Language:
    """What whoever sent these headers (names in lower case) reads: chosen on the page, else by Accept-Language."""
    return chosen_language(headers.get("cookie", "")) or language_of(headers.get("accept-language", ""))


def environment_language() -> Language:
    """The language of a command's messages, from the environment as POSIX orders it."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(name):
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"


class DanqingError(Exception):
    """An error with a row in `KINDS`.

    Args:
        code: a key of `KINDS`; an unknown code is a programming error and raises KeyError at once.
        params: the values of the sentence's fields.
    """

    def __init__(self, code: str, **params: ParamValue) -> None:
        self.kind = KINDS[code]
        self.params: dict[str, ParamValue] = params
        super().__init__(self.text("en"))

    @property
    def code(self) -> str:
        return self.kind.code

    @property
    def status(self) -> int:
        return self.kind.status

    def text(self, language: Language) -> str:
        """The sentence in `language`, fields filled."""
        if language == "en":
            return self.kind.en.format_map(_Fields(self.params))
        from danqing.reasons import in_chinese

        reason = self.params.get("reason")
        told = {"reason": in_chinese(reason)} if isinstance(reason, str) else {}
        return self.kind.zh.format_map(_Fields({**self.params, **told}))

    def as_dict(self) -> dict[str, ParamValue | dict[str, ParamValue]]:
        """A JSON-ready form that `from_dict` reads back."""
        return {"code": self.code, "params": self.params}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> DanqingError:
        """The error that `as_dict` wrote; an unknown code becomes `internal`."""
        code, params = str(data.get("code", "internal")), data.get("params")
        known = (
            {k: v for k, v in params.items() if isinstance(v, str | int | float)} if isinstance(params, dict) else {}
        )
        if code not in KINDS:
            return cls("internal", reference=code)
        return cls(code, **known)


class _Fields(dict[str, ParamValue]):
    """A sentence must never fail to print because a field is missing."""

    def __missing__(self, key: str) -> str:
        return "?"
