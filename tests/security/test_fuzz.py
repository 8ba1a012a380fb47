"""What reads bytes and texts from outside ends with a value or a named error, whatever it is given, and soon.

Texts and bytes are made by hypothesis, from nothing and by spoiling the files in `corpus/`, which holds what each reader takes
and what it must not. `DANQING_FUZZ` set to a number of examples makes a longer run, with other ones each time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from danqing.errors import DanqingError
from danqing.gallery import infotext, inputs
from danqing.gallery.reading import read_image
from danqing.library.embedding_files import read_embedding
from danqing.library.header import read_header
from danqing.library.pickles import read_pickle_header
from danqing.prompt import emphasis, networks, parts, schedule
from danqing.prompt.schedule import Timeline

CORPUS = Path(__file__).with_name("corpus")
EXAMPLES = int(os.environ.get("DANQING_FUZZ", "60"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize="DANQING_FUZZ" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
LIMIT_PIXELS = 2**16

WORDS = ["AND", "BREAK", ":1.5)", "<lora:x:1>", "[a:b:0.5]", "Negative prompt:", "Steps: 20", "Seed: 1", "Size: 8x8"]
PIECES = st.sampled_from([*"()[]{}<>:|,\\\n\"'", *WORDS])
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=60).map(" ".join)


def corpus(kind: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / kind).iterdir())]


@st.composite
def spoiled(draw: st.DrawFn, kind: str) -> bytes:
    """A file of the corpus with some bytes changed, cut out or put in; or bytes of no kind."""
    data = bytearray(draw(st.sampled_from(corpus(kind))))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        way = draw(st.sampled_from(("set", "cut", "put", "end")))
        if way == "set" and at < len(data):
            data[at] = draw(st.integers(0, 255))
        elif way == "cut":
            del data[at : at + draw(st.integers(1, 40))]
        elif way == "put":
            data[at:at] = draw(st.binary(max_size=20))
        else:
            del data[at:]
    return bytes(data)


def bytes_of(kind: str) -> st.SearchStrategy[bytes]:
    return st.one_of(spoiled(kind), st.binary(max_size=300))


def named(read: Callable[..., Any], *arguments: Any) -> Any:
    """What it reads; None for an error that people are told of. Every other error fails the test."""
    try:
        return read(*arguments)
    except DanqingError:
        return None


@FUZZ
@given(TEXTS)
def test_prompts(text: str) -> None:
    pieces = emphasis.parse(text)
    assert all(piece.weight == piece.weight for piece in pieces)
    assert schedule.scheduled(text, Timeline(7))
    assert networks.without_tags(networks.without_tags(text)) is not None
    for part in parts.split_parts(text):
        networks.network_tags(part.text)


@FUZZ
@given(TEXTS)
def test_infotexts(text: str) -> None:
    pairs = infotext.parse(text)
    assert all(isinstance(value, str) for value in pairs.values())
    infotext.parameters(text)
    named(infotext.to_request_fields, pairs)


@FUZZ
@given(bytes_of("pictures"))
def test_pictures(data: bytes) -> None:
    image = named(inputs.opened, data, LIMIT_PIXELS)
    assert image is None or image.width * image.height <= LIMIT_PIXELS
    found = named(read_image, data, LIMIT_PIXELS)
    assert found is None or isinstance(found[0], str)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@FUZZ
@given(data=bytes_of("safetensors"))
def test_safetensors_headers(folder: Path, data: bytes) -> None:
    path = folder / "x.safetensors"
    path.write_bytes(data)
    header = named(read_header, path)
    if header is not None:
        room = len(data) - header.data_start
        assert all(0 <= entry.start <= entry.end <= room for entry in header.tensors.values())


@FUZZ
@given(data=bytes_of("checkpoints"))
def test_pickled_checkpoints(folder: Path, data: bytes) -> None:
    path = folder / "x.ckpt"
    path.write_bytes(data)
    header = named(read_pickle_header, path)
    if header is not None:
        assert all(0 <= entry.start <= entry.end <= len(data) for entry in header.tensors.values())


@FUZZ
@given(data=bytes_of("pictures"))
def test_embeddings_in_pictures(folder: Path, data: bytes) -> None:
    path = folder / "x.png"
    path.write_bytes(data)
    named(read_embedding, path)


@pytest.mark.parametrize("kind", ["pictures", "safetensors", "checkpoints"])
def test_the_corpus_is_small_and_read(folder: Path, kind: str) -> None:
    """Files that begin with `good` are read; all of them are small."""
    readers: dict[str, Callable[[Path], Any]] = {
        "pictures": lambda path: inputs.opened(path.read_bytes()),
        "safetensors": read_header,
        "checkpoints": read_pickle_header,
    }
    files = sorted((CORPUS / kind).iterdir())
    assert len(files) >= 3
    for path in files:
        assert path.stat().st_size < 8192
        assert (named(readers[kind], path) is not None) is path.name.startswith("good"), path.name
