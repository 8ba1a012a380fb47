"""That a picture was made by AI, told in the picture: words in a corner, fields in the metadata, a signed manifest.

Embedded: the seven fields of GB 45438-2025 (appendix E) as the JSON value of `AIGC`, in XMP under TC260's namespace, as its
practice guide for files of pictures has it, and once more as a PNG text; beside them IPTC's digital source type, which others
read (https://cv.iptc.org/newscodes/digitalsourcetype/). Signed: a C2PA manifest (https://spec.c2pa.org), where the library
c2pa-python is installed and a certificate is set. Visible: as high as the standard asks, a twentieth of the shorter side.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from PIL import Image, ImageFilter

from danqing import __version__
from danqing.errors import DanqingError

if TYPE_CHECKING:
    from danqing.engine.protocol import ImageFacts
    from danqing.settings import Settings

LABELLED = ("image", "grid", "composite")
"""Roles of pictures that show something; masks and control maps do not."""

XMP, FIELD = "XML:com.adobe.xmp", "AIGC"
"""Keys of the PNG texts that carry the label."""

NAMESPACE = "http://www.tc260.org.cn/ns/AIGC/1.0/"
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

IS_GENERATED = "1"
"""The standard's value for what was certainly made by AI."""

MASKS = Path(__file__).parent.parent / "assets" / "label"
"""`zh.png` and `en.png`: the words, white on black, cut to their edges."""

SHARE, LEAST, MARGIN = 0.05, 10, 0.02
"""Height of the words and distance from the edges by the picture's shorter side; the words' least height in pixels."""

SHADE = 0.6
"""How dark the rim around the words is, so that they stand out from any ground."""

PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:TC260="{namespace}" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
    "<TC260:AIGC>{fields}</TC260:AIGC><Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>"
    '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)

Sign = Callable[[bytes, str], bytes]


@dataclass(frozen=True, slots=True)
class Labels:
    """What pictures are given. `visible`: "", "zh" or "en"; `sign`: adds a manifest to a file of a MIME type."""

    embedded: bool = False
    visible: str = ""
    producer: str = "danqing"
    sign: Sign | None = None

    @classmethod
    def of(cls, settings: Settings) -> Labels:
        """As the settings ask.

        Raises:
            DanqingError: `bad_setting`, when a certificate is set that cannot be signed with.
        """
        visible, certificate = settings.get_str("label_visible"), settings.get_str("c2pa_certificate")
        sign = (
            signer(certificate, settings.get_str("c2pa_key"), settings.get_str("c2pa_algorithm"))
            if certificate
            else None
        )
        return cls(
            settings.get_bool("label_embedded") or sign is not None,
            "" if visible == "off" else visible,
            settings.get_str("label_producer"),
            sign,
        )

    def drawn_on(self, pixels: bytes, facts: ImageFacts) -> bytes:
        """Pixels (height * width * channels bytes, row by row) with the words on them, where there are to be any."""
        if not self.visible or facts.role not in LABELLED:
            return pixels
        mode = "RGBA" if facts.channels == 4 else "RGB"
        image = Image.frombytes(mode, (facts.width, facts.height), pixels)
        _write_on(image, self.visible)
        return image.tobytes()

    def texts(self, pixels: bytes, told: str, facts: ImageFacts) -> dict[str, str]:
        """PNG texts that carry the label; the same picture gets the same id."""
        if not self.embedded or facts.role not in LABELLED:
            return {}
        name = hashlib.sha256(pixels + told.encode()).hexdigest()[:32]
        fields = json.dumps(
            {
                "Label": IS_GENERATED,
                "ContentProducer": self.producer,
                "ProduceID": name,
                "ReservedCode1": "",
                "ContentPropagator": self.producer,
                "PropagateID": name,
                "ReservedCode2": "",
            },
            ensure_ascii=False,
        )
        return {FIELD: fields, XMP: PACKET.format(namespace=NAMESPACE, fields=escape(fields), source=SOURCE)}

    def signed(self, data: bytes, kind: str) -> bytes:
        """A whole file of MIME type `kind` with its manifest, where pictures are signed and this one carries the label."""
        if self.sign is None or NAMESPACE.encode() not in data or b"caBX" in data:
            return data
        return self.sign(data, kind)


def carried(info: Mapping[Any, Any]) -> dict[str, str]:
    """The label in the `info` of an opened picture, as PNG texts for a copy of it."""
    return {key: str(info[key]) for key in (FIELD, XMP) if isinstance(info.get(key), str)}


def xmp_of(info: Mapping[Any, Any]) -> bytes | None:
    """The same for a JPEG or WebP copy."""
    packet = carried(info).get(XMP)
    return packet.encode() if packet else None


def _write_on(image: Image.Image, words: str) -> None:
    short = min(image.size)
    with Image.open(MASKS / f"{words}.png") as opened:
        mask = opened.convert("L")
    height = max(LEAST, -(-short * SHARE // 1))
    width = mask.width * height / mask.height
    fits = min(1.0, image.width / width, image.height / height)
    mask = mask.resize((max(1, round(width * fits)), max(1, round(height * fits))), Image.Resampling.LANCZOS)
    edge = round(short * MARGIN)
    place = max(0, image.width - mask.width - edge), max(0, image.height - mask.height - edge)
    rim = mask.filter(ImageFilter.MaxFilter(3)).point(lambda value: round(value * SHADE))
    image.paste((0, 0, 0) if image.mode == "RGB" else (0, 0, 0, 255), place, rim)
    image.paste((255, 255, 255) if image.mode == "RGB" else (255, 255, 255, 255), place, mask)


def signer(certificate: str, key: str, algorithm: str) -> Sign:
    """Adds C2PA manifests that a certificate chain vouches for.

    Args:
        certificate, key: PEM files, the chain with the signer's own certificate first.
        algorithm: as C2PA names it, "es256".

    Raises:
        DanqingError: `bad_setting`.
    """
    if find_spec("c2pa") is None:
        raise DanqingError("bad_setting", name="c2pa_certificate", reason="c2pa-python is not installed")
    import c2pa

    try:
        chain, secret = Path(certificate).read_bytes(), Path(key).read_bytes()
        info = c2pa.C2paSignerInfo(algorithm.encode(), chain, secret, None)  # no service that tells the time
        made = c2pa.Signer.from_info(info)
    except (OSError, ValueError, c2pa.C2paError) as error:
        raise DanqingError("bad_setting", name="c2pa_certificate", reason=str(error)[:200]) from None
    made_by_ai = {"action": "c2pa.created", "digitalSourceType": SOURCE}
    manifest = {
        "claim_generator_info": [{"name": "Danqing", "version": __version__}],
        "assertions": [{"label": "c2pa.actions", "data": {"actions": [made_by_ai]}}],
    }

    def sign(data: bytes, kind: str) -> bytes:
        out = io.BytesIO()
        with c2pa.Builder(manifest) as builder:
            builder.sign(made, kind, io.BytesIO(data), out)
        return out.getvalue()

    return sign
