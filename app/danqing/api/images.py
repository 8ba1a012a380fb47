"""Pictures on their way in and out of JSON: base64, formats, grids. Everything here blocks and belongs into a thread."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, PngImagePlugin

from danqing.api import remote
from danqing.api.errors import ApiError
from danqing.gallery.labels import XMP, Labels, carried, xmp_of
from danqing.gallery.reading import encode_user_comment
from danqing.imaging import grid as sheets

EXIF_IFD, USER_COMMENT = 0x8769, 0x9286
FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}
TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
OF_ADDRESSES = str.maketrans("-_", "+/")
"""Base64's other alphabet, whose letters need no quoting in an address (RFC 4648, 5)."""


def decode(text: str, *, urls: bool = False) -> bytes:
    """The bytes of a base64 text, with or without a data prefix and padding; with `urls` also of what an address gives.

    Raises:
        ApiError: in the WebUI's words, for an address where there must be none, and for what is no base64.
        DanqingError: `url_refused`.
    """
    text = text.strip()
    if remote.is_address(text):
        if urls:
            return remote.fetched(text)
        raise ApiError(422, "HTTPException", "Requests not allowed")
    if text[:5].lower() == "data:":
        text = text.partition(",")[2]
    plain = "".join(text.split()).rstrip("=").translate(OF_ADDRESSES)
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(422, "HTTPException", "Invalid encoded image") from None


def encode(png: bytes, infotext: str, options: Mapping[str, Any], labels: Labels) -> str:
    """Base64 of a stored PNG, in the format of the option `samples_format`, the infotext and the label that it has inside."""
    kind = str(options["samples_format"]).lower()
    if kind not in FORMATS:
        raise ApiError(422, "HTTPException", "Invalid image format")
    if kind != "png":
        with Image.open(io.BytesIO(png)) as image:
            png = with_exif(image.convert("RGB"), FORMATS[kind], infotext, options)
    return base64.b64encode(labels.signed(png, TYPES[FORMATS[kind]])).decode("ascii")


def with_texts(png: bytes, texts: Mapping[str, str]) -> bytes:
    """The same pixels and label with other text chunks."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.save(out, "PNG", pnginfo=chunks({**texts, **carried(image.info)}))
    return out.getvalue()


def chunks(texts: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    """Text chunks of a PNG."""
    made = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        (made.add_itxt if key == XMP else made.add_text)(key, text)
    return made


def with_exif(image: Image.Image, kind: str, infotext: str, options: Mapping[str, Any]) -> bytes:
    """JPEG or WebP with the infotext as EXIF UserComment, and the label that the picture has."""
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = encode_user_comment(infotext)
    out = io.BytesIO()
    lossless = {"lossless": True} if kind == "WEBP" and options["webp_lossless"] else {}
    xmp = xmp_of(image.info)
    label = {"xmp": xmp} if xmp else {}
    image.save(out, kind, quality=int(options["jpeg_quality"]), exif=exif, **lossless, **label)
    return out.getvalue()


def grid(pngs: Sequence[bytes], batch_size: int, infotext: str, options: Mapping[str, Any]) -> bytes:
    """All pictures on one sheet as PNG: `n_rows` rows, 0 for a row a batch, -1 for about as many rows as columns."""
    images = [Image.open(io.BytesIO(png)).convert("RGB") for png in pngs]
    label = carried(images[0].info)
    rows = sheets.rows_of(len(images), batch_size, int(options["n_rows"]))
    sheet = sheets.image_grid(images, rows, str(options["grid_background_color"]))
    chunk = PngImagePlugin.PngInfo()
    chunk.add_itxt("parameters", infotext)
    for key, text in label.items():
        chunk.add_itxt(key, text)
    out = io.BytesIO()
    sheet.save(out, "PNG", pnginfo=chunk)
    return out.getvalue()


def preview(png: bytes, width: int, height: int, kind: str) -> str:
    """A preview of latent size scaled to the picture's, as base64."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(png)) as small:
        size = (max(8, width // 8 * 8), max(8, height // 8 * 8))
        small.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(
            out, FORMATS.get(kind, "PNG"), compress_level=1
        )
    return base64.b64encode(out.getvalue()).decode("ascii")
