"""The infotext inside a picture that somebody hands in: PNG chunk, EXIF UserComment, GIF comment. Trusts nothing."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from PIL import Image, UnidentifiedImageError

from danqing.errors import DanqingError

T = TypeVar("T")

LIMIT_PIXELS = 64 * 1024 * 1024
"""Default of the setting `limit_upload_pixels`."""

AT_ONCE_PIXELS = 64 * 1024 * 1024
"""Of pictures that are decoded at the same time: half a gigabyte with what is made of them. A file of 200 KB may have them."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF", "BMP")

_NOT_TEXT = frozenset(
    {
        "jfif",
        "jfif_version",
        "jfif_unit",
        "jfif_density",
        "dpi",
        "exif",
        "loop",
        "background",
        "timestamp",
        "duration",
        "progressive",
        "progression",
        "icc_profile",
        "chromaticity",
        "photoshop",
        "xmp",
    }
)
"""Spec 3: what the png-info route leaves out of its items."""

_MAKERS = (
    ("workflow", '"nodes"', "ComfyUI"),
    ("prompt", '"class_type"', "ComfyUI"),
    *((key, "{", "InvokeAI") for key in ("invokeai_metadata", "invokeai_graph", "sd-metadata")),
    ("Dream", "-s", "InvokeAI"),
    ("Software", "NovelAI", "NovelAI"),
)
"""Key of a text, words that it holds, and the program that writes it."""

_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286

_NOVELAI_SAMPLERS = {
    "k_euler_ancestral": "Euler a",
    "k_euler": "Euler",
    "k_lms": "LMS",
    "k_heun": "Heun",
    "k_dpm_2": "DPM2",
    "k_dpm_2_ancestral": "DPM2 a",
    "k_dpmpp_2m": "DPM++ 2M",
    "k_dpmpp_2s_ancestral": "DPM++ 2S a",
    "k_dpmpp_sde": "DPM++ SDE",
    "plms": "PLMS",
    "ddim": "DDIM",
}


class Room:
    """For so many pixels at once; whoever finds none waits. A picture that has more than all of it comes in alone."""

    def __init__(self, pixels: int) -> None:
        self._most, self._taken = pixels, 0
        self._queue, self._changed = threading.Lock(), threading.Condition()

    @contextlib.contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Holds room for a picture."""
        # One after the other: else a large picture would wait for as long as small ones come.
        with self._queue, self._changed:
            self._changed.wait_for(lambda: self._taken == 0 or self._taken + pixels <= self._most)
            self._taken += pixels
        try:
            yield
        finally:
            with self._changed:
                self._taken -= pixels
                self._changed.notify_all()


ROOM = Room(AT_ONCE_PIXELS)
"""Of this process."""


def read_image(data: bytes, limit_pixels: int = LIMIT_PIXELS) -> tuple[str, dict[str, str]]:
    """The infotext of a picture ("" if it has none) and its other texts.

    Reads the whole picture (texts may stand behind the pixels) and so belongs into a thread.

    Raises:
        DanqingError: `broken_image`, also when it is of no known format or has more than `limit_pixels` pixels.
    """
    return decoded(data, limit_pixels, _texts)


def maker_of(items: Mapping[str, str]) -> str:
    """The program whose own settings stand among a picture's texts; "" where none is known by them."""
    return next((program for key, words, program in _MAKERS if words in items.get(key, "")), "")


def decoded(data: bytes, limit_pixels: int, use: Callable[[Image.Image], T], formats: tuple[str, ...] = FORMATS) -> T:
    """What `use` makes of a picture from outside, which is decoded whole, when there is room for it.

    Raises:
        DanqingError: `broken_image`, for whatever a decoder or `use` raises, and for more than `limit_pixels` pixels, which are
            counted before they are decoded.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
        if image.width * image.height > limit_pixels:
            raise DanqingError(
                "broken_image", reason=f"{image.width}x{image.height} is more than {limit_pixels} pixels"
            )
        with ROOM.taken(image.width * image.height):
            image.load()
            return use(image)
    except DanqingError:
        raise
    except Image.DecompressionBombError:
        raise DanqingError("broken_image", reason=f"more than {limit_pixels} pixels") from None
    except UnidentifiedImageError:
        raise DanqingError("broken_image", reason=f"it is none of {', '.join(FORMATS)}") from None
    except Exception as error:  # noqa: BLE001 - a decoder may raise anything on hostile bytes
        raise DanqingError("broken_image", reason=str(error)[:200] or type(error).__name__) from None


def _texts(image: Image.Image) -> tuple[str, dict[str, str]]:
    items = {str(key): _text(value) for key, value in image.info.items() if _is_text(key, value)}
    infotext = items.pop("parameters", "")
    exif = _user_comment(image)
    if exif:
        infotext = exif
    elif image.format == "GIF" and "comment" in items:
        infotext = items.pop("comment")
    if items.get("Software") == "NovelAI":
        infotext = _novelai(items, image) or infotext
    return infotext, items


def _is_text(key: object, value: object) -> bool:
    return isinstance(key, str) and key not in _NOT_TEXT and isinstance(value, str | bytes)


def _text(value: str | bytes) -> str:
    return str(value) if isinstance(value, str) else value.decode("utf-8", "replace")


def _user_comment(image: Image.Image) -> str:
    raw = image.getexif().get_ifd(_EXIF_IFD).get(_USER_COMMENT, b"")
    return decode_user_comment(raw) if isinstance(raw, bytes) else str(raw)


def decode_user_comment(raw: bytes) -> str:
    """An EXIF UserComment: 8 bytes name the encoding (EXIF 2.3). Unicode is UTF-16, written big-endian by the WebUI."""
    kind, body = raw[:8], raw[8:]
    if kind.startswith(b"UNICODE"):
        return _utf16(body).rstrip("\x00")
    if kind.startswith(b"ASCII"):
        return body.decode("latin-1").rstrip("\x00")
    if kind.startswith(b"JIS"):
        return body.decode("iso2022_jp", "replace").rstrip("\x00")
    return (body if kind == bytes(8) else raw).decode("utf-8", "replace").rstrip("\x00")


def _utf16(body: bytes) -> str:
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return body.decode("utf-16", "replace")
    # Some writers use little-endian without saying so; in such a text the zero bytes of ASCII letters come second.
    little = body[1::2].count(0) > body[0::2].count(0)
    return body.decode("utf-16-le" if little else "utf-16-be", "replace")


def encode_user_comment(text: str) -> bytes:
    """The inverse, for JPEG and WebP copies."""
    return b"UNICODE\x00" + text.encode("utf-16-be")


def _novelai(items: Mapping[str, str], image: Image.Image) -> str:
    try:
        told: Any = json.loads(items.get("Comment", ""))
        sampler = _NOVELAI_SAMPLERS.get(str(told["sampler"]), "Euler a")
        return (
            f"{items.get('Description', '')}\nNegative prompt: {told['uc']}\n"
            f"Steps: {told['steps']}, Sampler: {sampler}, CFG scale: {told['scale']}, Seed: {told['seed']}, "
            f"Size: {image.width}x{image.height}, Clip skip: 2, ENSD: 31337"
        )
    except (ValueError, KeyError, TypeError):
        return ""
