"""PNG bytes from pixels. The bytes depend on the pixels and the texts alone: no time, no identity."""

from __future__ import annotations

import io
from collections.abc import Mapping

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from danqing.engine.protocol import ImageFacts
from danqing.gallery.labels import XMP, Labels


def encode(pixels: bytes, width: int, height: int, texts: Mapping[str, str], channels: int = 3) -> bytes:
    """A PNG.

    Args:
        pixels: RGB (RGBA with four channels), height * width * channels bytes, row by row.
        texts: text chunks in order; tEXt where the text is Latin-1, else iTXt, as the WebUI writes them.

    Raises:
        ValueError: `pixels` has another length.
    """
    info = PngInfo()
    for key, text in texts.items():
        if key == XMP:  # always iTXt, as readers of XMP expect it
            info.add_itxt(key, text)
        else:
            info.add_text(key, text)
    buffer = io.BytesIO()
    Image.frombytes("RGBA" if channels == 4 else "RGB", (width, height), pixels).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def labelled(pixels: bytes, facts: ImageFacts, infotext: str, labels: Labels) -> bytes:
    """The file of a finished picture: its infotext ("" for none), and what `labels` add."""
    pixels = labels.drawn_on(pixels, facts)
    texts = {"parameters": infotext} if infotext else {}
    texts |= labels.texts(pixels, infotext, facts)
    return labels.signed(encode(pixels, facts.width, facts.height, texts, facts.channels), "image/png")
