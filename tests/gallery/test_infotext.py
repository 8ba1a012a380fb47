"""Infotext against texts that the WebUI 1.10.1 wrote (infotexts.json), and there and back for any request."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danqing.engine.protocol import ImageFacts
from danqing.gallery import infotext
from danqing.request import GenerateRequest, parsed

CASES = json.loads(Path(__file__).with_name("infotexts.json").read_text("utf-8"))


@pytest.mark.parametrize("row", CASES, ids=lambda row: row["case"])
def test_written_as_the_webui_writes(row: dict[str, Any]) -> None:
    written = infotext.write(GenerateRequest(**row["request"]), ImageFacts.from_dict(row["facts"]), "v1.10.1")
    assert written == row["infotext"]


@pytest.mark.parametrize("row", CASES, ids=lambda row: row["case"])
def test_read_back_as_the_request(row: dict[str, Any]) -> None:
    fields = infotext.to_request_fields(infotext.parse(row["infotext"]), model=True)
    expected = row["request"] | {"scheduler": row["facts"]["schedule"], "model": row["facts"]["model_hash"]}
    assert fields == expected | {"seed": row["facts"]["seed"]}


def test_filled_and_unfilled() -> None:
    text = "a (cat)\nSteps: 12, Sampler: Euler, Seed: 1, Size: 96x64, Version: v1.10.1"
    pairs = infotext.parse(text)
    assert (pairs["Size-1"], pairs["Size-2"], pairs["Clip skip"], pairs["RNG"]) == ("96", "64", "1", "GPU")
    assert (pairs["Schedule type"], pairs["Emphasis"], pairs["Hires resize-1"]) == ("Automatic", "Original", "0")
    assert "Size" not in pairs
    plain = infotext.parse(text, fill=False)
    assert list(plain) == ["Prompt", "Negative prompt", "Steps", "Sampler", "Seed", "Size-1", "Size-2", "Version"]
    assert infotext.parameters(text)["Masked area padding"] == 32
    assert infotext.parameters(text)["Refiner switch by sampling steps"] is False
    assert "Emphasis" not in infotext.parse(text.replace("(cat)", "cat"))


def test_quoted_values() -> None:
    pairs = infotext.parse(
        'x\nSteps: 1, Lora hashes: "a: 1, b: 2", Sampler: Euler, Note: "line\\nline", Version: v1.10.1'
    )
    assert (pairs["Lora hashes"], pairs["Note"]) == ("a: 1, b: 2", "line\nline")
    assert infotext.parse('x\nSteps: 1, Sampler: Euler, Odd: "no end, Seed: 2', fill=False)["Odd"] == '"no end'


def test_lines_of_prompt_and_negative_prompt() -> None:
    text = "one\n\n two \nNegative prompt: bad\nNegative prompt: worse\n\nSteps: 1, Sampler: Euler, Seed: 2"
    pairs = infotext.parse(text)
    assert pairs["Prompt"] == "one\n\n two "
    assert pairs["Negative prompt"] == "bad\nNegative prompt: worse\n"


@pytest.mark.parametrize("text", ["", "just words", "two: pairs, are: few", "a\nb"])
def test_a_text_without_parameters_is_a_prompt(text: str) -> None:
    assert infotext.parse(text, fill=False) == {"Prompt": text, "Negative prompt": ""}


def test_the_known_ambiguity() -> None:
    """Of the format, not of the reader: such a prompt line cannot be told from the negative prompt."""
    written = infotext.write(GenerateRequest(prompt="a\nNegative prompt: b"), FACTS, "v1")
    assert infotext.parse(written)["Negative prompt"] == "b"
    # Without its line of parameters a prompt that ends like one is read as one.
    assert infotext.parse("Steps: 1, Sampler: Euler, Seed: 2")["Prompt"] == ""


def test_texts_of_old_versions() -> None:
    old = "[a:b:0.5]\nSteps: 20, Sampler: DDIM, Seed: 1, Size: 1024x1024, First pass size: 512x512, Hypernet: anime, Refiner: x"
    pairs = infotext.parse(old + ", Version: v1.5.2")
    assert pairs["Prompt"] == "[a:b:0.5]<hypernet:anime:1.0>"
    assert (pairs["Size-1"], pairs["Hires resize-1"]) == ("512", "1024")
    switches = ("Old prompt editing timelines", "Pad conds v0", "Downcast alphas_cumprod")
    assert [pairs.get(key) for key in switches] == ["True"] * 3
    assert pairs["Refiner switch by sampling steps"] == "True"
    for version in (", Version: v1.10.1", ", Version: danqing 0.1.0", ""):
        assert not set(switches) & infotext.parse(old + version).keys()


def test_first_passes_of_old_versions() -> None:
    """Size was the final one; a first pass of 0x0 was one of about 512 squared."""
    text = "x\nSteps: 20, Sampler: Euler, Size: 1024x768, Denoising strength: 0.7, First pass size: 0x0"
    pairs = infotext.parse(text)
    assert [pairs[f"Size-{axis}"] for axis in (1, 2)] == ["640", "448"]
    assert [pairs[f"Hires resize-{axis}"] for axis in (1, 2)] == ["1024", "768"]
    huge = infotext.parse(f"x\nSteps: 20, Sampler: Euler, First pass size: 0x0, Size: {'9' * 400}x8")
    assert huge["Hires resize-1"] == "0"


@pytest.mark.parametrize(
    ("version", "downcast", "by_steps"),
    [
        ("v1.7.0", True, True),
        ("v1.7.0-224-gabc", True, True),
        ("v1.7.0-225-gabc", False, True),
        ("1.8.0-RC", False, True),
        ("v1.8.0", False, False),
        ("f2.0.1v1.10.1", False, False),
    ],
)
def test_versions_between_releases(version: str, downcast: bool, by_steps: bool) -> None:
    found = infotext.parameters(f"x\nSteps: 20, Sampler: Euler, Seed: 1, Refiner: y, Version: {version}")
    assert found.get("Downcast alphas_cumprod", False) is downcast
    assert found["Refiner switch by sampling steps"] is by_steps


def test_loras_of_the_extension_before_there_were_tags() -> None:
    pairs = "AddNet Module 1: LoRA, AddNet Model 1: ink(0a1b2c3d), AddNet Weight A 1: 0.8"
    text = f"x\nSteps: 2, Sampler: Euler, AddNet Enabled: True, {pairs}"
    assert infotext.parse(text)["Prompt"] == "x\n<lora:ink:0.8>"


@pytest.mark.parametrize(
    ("prompt", "weighted"), [("(a)", True), ("(a:1.0)", False), (r"\(a\)", False), ("[a:b:3]", True)]
)
def test_emphasis_is_told_of_weights(prompt: str, weighted: bool) -> None:
    assert ("Emphasis" in infotext.parse(f"{prompt}\nSteps: 2, Sampler: Euler, Seed: 1")) is weighted


def test_numbers_that_are_none_are_left_out() -> None:
    pairs = infotext.parse("x\nSteps: many, Sampler: Euler, Seed: " + "9" * 5000 + ", CFG scale: 7.5")
    fields = infotext.to_request_fields(pairs)
    assert (fields["cfg_scale"], fields["sampler"]) == (7.5, "Euler")
    assert not {"steps", "seed"} & fields.keys()
    assert "rng" not in infotext.to_request_fields({"RNG": "dice"})


@pytest.mark.parametrize("text", ["a" * 10**6, " " * 10**6 + "x", 'a:"' * 300000, 'aa: \\",' * 200000])
def test_a_megabyte_is_read_in_linear_time(text: str) -> None:
    began = time.process_time()
    infotext.parse("prompt\n" + text)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("sampler", "eta", "written"),
    [
        ("Euler a", 0.5, "Eta: 0.5"),
        ("Euler a", 1.0, None),
        ("DDIM", 0.5, "Eta DDIM: 0.5"),
        ("DDIM", 0.0, None),
        ("Euler", 0.5, None),
        ("Euler a", None, None),
    ],
)
def test_eta(sampler: str, eta: float | None, written: str | None) -> None:
    text = infotext.write(GenerateRequest(sampler=sampler, eta=eta), FACTS, "v1")
    assert ("Eta" in text) == bool(written)
    assert (written or "") in text


FACTS = ImageFacts(42, 16, 8, "tiny", "dcb4c28710", "Karras")
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=60) | st.text(
    st.sampled_from('ab ,:"\\\n\r\t猫()[]<>'), max_size=40
)
PROMPTS = TEXTS.filter(lambda text: not any(line.startswith(infotext.NEGATIVE) for line in text.split("\n")))
REQUESTS = st.builds(
    GenerateRequest,
    prompt=PROMPTS,
    negative_prompt=TEXTS,
    sampler=st.sampled_from(["Euler", "Euler a", "DPM++ 2M", "DDIM", "DPM++ 2M SDE"]),
    scheduler=st.sampled_from(["Automatic", "Karras", "SGM Uniform"]),
    steps=st.integers(1, 150),
    cfg_scale=st.floats(-100, 100),
    width=st.integers(8, 4096),
    height=st.integers(8, 4096),
    seed=st.integers(0, 2**63 - 1),
    clip_skip=st.integers(1, 12),
    eta=st.none() | st.floats(0.01, 0.99),
    rng=st.sampled_from(["GPU", "NV", "CPU"]),
)


@given(REQUESTS, st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_there_and_back(request: GenerateRequest, model: str) -> None:
    facts = ImageFacts(request.seed, request.width, request.height, model, "", request.scheduler)
    text = infotext.write(request, facts, "danqing 0.1.0")
    back = parsed(infotext.to_request_fields(infotext.parse(text)))
    if request.sampler in infotext.NO_ETA:
        request = request.model_copy(update={"eta": None})
    assert back == request


@given(TEXTS)
def test_any_text_can_be_read(text: str) -> None:
    infotext.to_request_fields(infotext.parse(text))


@given(TEXTS)
def test_quoting_there_and_back(text: str) -> None:
    if not text.startswith('"'):
        assert infotext.unquote(infotext.quote(text)) == text
