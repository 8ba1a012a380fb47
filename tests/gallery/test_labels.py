"""The label of what AI made: in the corner, in the metadata of every format, signed where there is a certificate."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image, ImageChops

from danqing.api import images
from danqing.app import load_settings
from danqing.engine.protocol import ImageFacts
from danqing.errors import DanqingError
from danqing.gallery import png
from danqing.gallery.labels import NAMESPACE, SOURCE, Labels, signer
from danqing.gallery.reading import read_image

OPTIONS = {"jpeg_quality": 80, "webp_lossless": False, "n_rows": -1, "grid_background_color": "#ffffff"}
OTHER_USES = (
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "encipher_only",
    "decipher_only",
)
KEYS = ["Label", "ContentProducer", "ProduceID", "ReservedCode1", "ContentPropagator", "PropagateID", "ReservedCode2"]


def facts(width: int = 256, height: int = 192, **more: Any) -> ImageFacts:
    known = {"seed": 1, "width": width, "height": height, "model_name": "m", "model_hash": "", "schedule": "Automatic"}
    return ImageFacts.from_dict(known | more)


def grey(one: ImageFacts) -> bytes:
    return bytes([120]) * (one.width * one.height * one.channels)


def stored(labels: Labels, **more: Any) -> bytes:
    one = facts(**more)
    return png.labelled(grey(one), one, "a cat\nSteps: 1", labels)


def label_of(data: bytes) -> dict[str, str]:
    """The seven fields, as a reader of XMP finds them."""
    with Image.open(io.BytesIO(data)) as image:
        packet = image.info.get("XML:com.adobe.xmp") or image.info["xmp"].decode()
    tree = ElementTree.fromstring(re.sub(r"<\?xpacket.*?\?>", "", packet))
    assert [one.text for one in tree.iter() if one.tag.endswith("DigitalSourceType")] == [SOURCE]
    (found,) = [one.text for one in tree.iter(f"{{{NAMESPACE}}}AIGC")]
    told: dict[str, str] = json.loads(found or "")
    return told


def test_nothing_is_added_where_nothing_is_asked_for() -> None:
    one = facts()
    assert stored(Labels()) == png.encode(grey(one), one.width, one.height, {"parameters": "a cat\nSteps: 1"})


def test_the_fields_of_the_standard_are_in_the_file() -> None:
    data = stored(Labels(embedded=True, producer="某公司 <A&B>"))
    told = label_of(data)
    assert list(told) == KEYS
    assert (told["Label"], told["ContentProducer"]) == ("1", "某公司 <A&B>")
    assert re.fullmatch(r"[0-9a-f]{32}", told["ProduceID"])
    text, items = read_image(data)
    assert text == "a cat\nSteps: 1"
    assert json.loads(items["AIGC"]) == told
    assert data == stored(Labels(embedded=True, producer="某公司 <A&B>"))
    assert label_of(stored(Labels(embedded=True), width=128))["ProduceID"] != told["ProduceID"]


def test_masks_and_maps_are_not_labelled() -> None:
    for role in ("mask", "map"):
        assert b"AIGC" not in stored(Labels(embedded=True, visible="zh"), role=role)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_copies_in_other_formats_keep_it(kind: str) -> None:
    data = stored(Labels(embedded=True))
    with Image.open(io.BytesIO(data)) as image:
        copy = images.with_exif(image.convert("RGB"), kind, "a cat", OPTIONS)
    assert label_of(copy) == label_of(data)
    assert read_image(copy)[0] == "a cat"


def test_grids_and_pictures_with_other_texts_keep_it() -> None:
    data = stored(Labels(embedded=True))
    assert label_of(images.with_texts(data, {"postprocessing": "x"})) == label_of(data)
    assert label_of(images.grid([data, data], 2, "a cat", OPTIONS)) == label_of(data)


@pytest.mark.parametrize("words", ["zh", "en"])
@pytest.mark.parametrize(("width", "height", "channels"), [(640, 480, 3), (64, 64, 4), (16, 512, 3)])
def test_words_stand_in_the_corner(words: str, width: int, height: int, channels: int) -> None:
    one = facts(width, height, channels=channels)
    data = stored(Labels(visible=words), width=width, height=height, channels=channels)
    with Image.open(io.BytesIO(data)) as image:
        drawn = image.convert("RGB")
    changed = Image.frombytes("RGBA" if channels == 4 else "RGB", (width, height), grey(one)).convert("RGB")
    left, top, right, bottom = ImageChops.difference(drawn, changed).getbbox() or (0, 0, 0, 0)
    assert right > width / 2
    assert bottom > height * 0.9
    if width >= 200:
        assert bottom - top >= 0.05 * min(width, height)
    assert drawn.getextrema()[0][1] > (200 if width >= 64 else 150)
    assert drawn.getpixel((0, 0)) == (120, 120, 120)
    assert left >= 0


def certificate(folder: Path) -> tuple[str, str]:
    """An end entity's certificate as C2PA wants it, with the authority that signed it, and the key; in files."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [
        x509.Name(
            [
                x509.NameAttribute(x509.NameOID.COMMON_NAME, name),
                x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Danqing tests"),
            ]
        )
        for name in ("authority", "signer")
    ]
    made = []
    for place, (name, key) in enumerate(zip(names, keys, strict=True)):
        now = datetime.now(UTC)
        usage = dict.fromkeys(OTHER_USES, False)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(names[0])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(place == 0, None), True)
            .add_extension(
                x509.KeyUsage(digital_signature=place == 1, key_cert_sign=place == 0, crl_sign=place == 0, **usage),
                True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), False)
        )
        if place == 1:
            builder = builder.add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
        made.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (folder / "chain.pem").write_bytes(made[1] + made[0])
    key = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(key)
    return str(folder / "chain.pem"), str(folder / "key.pem")


def test_a_certificate_signs_every_format(tmp_path: Path) -> None:
    c2pa = pytest.importorskip("c2pa")
    chain, key = certificate(tmp_path)
    labels = Labels.of(load_settings(tmp_path, {"c2pa_certificate": chain, "c2pa_key": key}))
    data = stored(labels)
    assert labels.signed(data, "image/png") is data
    with Image.open(io.BytesIO(data)) as image:
        jpeg = labels.signed(images.with_exif(image.convert("RGB"), "JPEG", "a cat", OPTIONS), "image/jpeg")
    for kind, file in (("image/png", data), ("image/jpeg", jpeg)):
        told = json.loads(c2pa.Reader(kind, io.BytesIO(file)).json())
        manifest = told["manifests"][told["active_manifest"]]
        actions = [
            one["data"]["actions"][0] for one in manifest["assertions"] if one["label"].startswith("c2pa.actions")
        ]
        assert [(one["action"], one["digitalSourceType"]) for one in actions] == [("c2pa.created", SOURCE)]
        assert told["validation_state"] in ("Valid", "Trusted"), told.get("validation_status")
        assert label_of(file)["Label"] == "1"
        assert read_image(file)[0].startswith("a cat")


def test_a_certificate_that_cannot_sign_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(DanqingError) as caught:
        signer(str(tmp_path / "none.pem"), str(tmp_path / "none.key"), "es256")
    assert (caught.value.code, caught.value.params["name"]) == ("bad_setting", "c2pa_certificate")
