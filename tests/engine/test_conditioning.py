"""Conditionings against those that the WebUI's text encoder gave for the same prompts, and the encoders of other families."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from danqing.engine.calls import Encode
from danqing.engine.conditioning import MOST_CHUNKS, Conditionings, conditionings
from danqing.engine.encoding import ChunkMemory, encode
from danqing.engine.models import TextEncoder, load
from danqing.errors import DanqingError
from danqing.library.embeddings import Embeddings
from danqing.library.index import Library
from danqing.options import DrawOptions
from danqing.prompt.chunks import Cutter
from danqing.prompt.emphasis import Emphasis
from danqing.prompt.networks import without_tags
from danqing.prompt.tokenizer import EOS, default_tokenizer, tokenizer_of
from danqing.prompt.triggers import Triggers
from danqing.request import LIMITS, GenerateRequest

from . import tiny

CPU = torch.device("cpu")
PROMPTS = {
    row["id"]: row["prompt"]
    for row in json.loads((Path(__file__).parents[1] / "prompt" / "prompts.json").read_text("utf-8"))
}
CONDITIONINGS = np.load(tiny.REFERENCE / "prompts_cond.npz")
RELATIVE = 1e-4
"""Measured: below 5e-5, where a mean near 0 is restored; else below 1e-6."""
DRAWN = sorted(
    path.stem
    for path in (tiny.REFERENCE / "txt2img").glob("*.json")
    if path.stem
    in {"p_alt", "p_and", "p_edit", "p_old_emph", "p_ti", "p_ti_emph", "p_emph_none", "p_emph_nonorm", "hr_edit"}
)


@dataclass
class Reader:
    """Encodes prompts with a model and the embeddings of a data root."""

    model: Any
    embeddings: Embeddings

    def read(
        self,
        prompt: str,
        negative: str = "",
        steps: int = 20,
        *,
        base: int | None = None,
        skip: int = 1,
        **options: Any,
    ) -> Conditionings:
        request = GenerateRequest(prompt=prompt, clip_skip=skip, options=DrawOptions(**options))
        walk = conditionings(
            request,
            self.model,
            steps,
            prompt=prompt,
            negative_prompt=negative,
            hires=base is not None,
            base_steps=base,
            embeddings=self.embeddings,
            empty=True,
        )
        return run(walk)


def run(walk: Generator[Any, Any, Conditionings]) -> Conditionings:
    answer: Any = None
    while True:
        try:
            call = walk.send(answer)
        except StopIteration as stop:
            found: Conditionings = stop.value
            return found
        with torch.inference_mode():
            answer = encode([call], CPU)[0]


@pytest.fixture(scope="module")
def reader(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    data = tmp_path_factory.mktemp("embeddings")
    shutil.copytree(tiny.REFERENCE / "data" / "embeddings", data / "embeddings")
    model = load(Library(tiny_data).resolve("tiny-sd15"), CPU, torch.float32)
    return Reader(model, Embeddings(data))


def distance(mine: torch.Tensor, theirs: np.ndarray[Any, Any]) -> float:
    assert mine.shape == theirs.shape
    return float(np.linalg.norm(mine.numpy() - theirs) / np.linalg.norm(theirs))


@pytest.mark.parametrize("key", [key for key in CONDITIONINGS.files if "/multicond/" not in key])
def test_what_one_prompt_gives(reader: Reader, key: str) -> None:
    index, kind = key.split("/")
    skip = int(kind[-1]) if kind.startswith("clipskip") else 1
    emphasis = "Original" if skip > 1 else kind
    embeddings = reader.embeddings.triggers("clip_l", (("clip_l", 64),))
    cutter = Cutter(default_tokenizer(), embeddings, Emphasis(emphasis))
    prompts = (cutter.cut(without_tags(PROMPTS[index])),)
    with torch.inference_mode():
        ((found,),) = encode([Encode(reader.model, prompts, skip, emphasis)], CPU)
    assert distance(found.context, CONDITIONINGS[key][0]) < RELATIVE


@pytest.mark.parametrize("key", [key for key in CONDITIONINGS.files if "/multicond/" in key])
def test_parts_and_entries_of_a_pass(reader: Reader, key: str) -> None:
    match = re.fullmatch(r"(\d+)/multicond/part(\d+)_w([\d.]+)/t\d+_end(\d+)", key)
    assert match is not None
    found = reader.read(PROMPTS[match[1]]).at(int(match[4])).parts[int(match[2])]
    assert found[1] == float(match[3])
    assert distance(found[0].context, CONDITIONINGS[key]) < RELATIVE


@pytest.mark.parametrize("name", DRAWN)
def test_what_a_drawn_picture_was_given(reader: Reader, name: str) -> None:
    """Every recorded conditioning is in force at the step that it ends with."""
    case = json.loads((tiny.REFERENCE / "txt2img" / f"{name}.json").read_text("utf-8"))
    sent, recorded = case["request"], np.load(tiny.REFERENCE / "txt2img" / f"{name}.0.npz")
    known = DrawOptions.model_fields
    options = {key: value for key, value in sent["override_settings"].items() if key in known}
    compared = 0
    for number, base in ((0, None), (1, sent["steps"])):
        pass_ = reader.read(sent["prompt"], sent["negative_prompt"], sent["steps"], base=base, **options)
        for key in recorded.files:
            match = re.fullmatch(rf"call{number}_(u?c)_b0_(?:s(\d+)_)?t\d+_end(\d+)", key)
            if match is None:
                continue
            moment = pass_.at(int(match[3]))
            mine = moment.uncond if match[1] == "uc" else moment.parts[int(match[2])][0]
            assert distance(mine.context, recorded[key]) < RELATIVE, key
            compared += 1
        if number == 0:
            assert all(f"{key}: " in case_text(case) for key in pass_.infotext)
    assert compared >= 2


def case_text(case: dict[str, Any]) -> str:
    info = case["info"]
    return str((json.loads(info) if isinstance(info, str) else info)["infotexts"][0])


def test_the_infotext_names_embeddings_as_the_webui_does(reader: Reader) -> None:
    found = reader.read("a tiemb cat", "tineg").infotext
    assert found == {"TI hashes": "tiemb: 503e16cc7444, tineg: b9ab2254b3e0"}
    assert reader.read("a (cat)", emphasis="Ignore").infotext == {"Emphasis": "Ignore"}
    assert reader.read("a (tiemb)", use_old_emphasis_implementation=True, emphasis="No norm").infotext == {}


def test_from_covers_the_call_after_the_switch(reader: Reader) -> None:
    found = reader.read("[cat:dog:0.5]", "[x:y:4]", 12)
    cats = [call for call in range(12) if found.at(call).parts[0][0] is found.at(0).parts[0][0]]
    assert cats == [0, 1, 2, 3, 4, 5, 6]
    assert [call for call in range(12) if found.at(call).uncond is found.at(0).uncond] == [0, 1, 2, 3, 4]
    assert found.at(99).parts[0][0] is found.at(0).parts[0][0]


def test_prompts_of_one_call_are_filled_up(reader: Reader) -> None:
    found = reader.read("[cat:" + "dog " * 80 + ":5]", steps=10)
    assert found.at(0).parts[0][0].context.shape == found.at(9).parts[0][0].context.shape == (154, 64)
    assert found.empty is not None
    assert torch.allclose(found.at(0).parts[0][0].context[77:], found.empty.context, atol=1e-6)


def test_the_mean_is_restored_chunk_by_chunk(reader: Reader) -> None:
    """A weight in the second chunk leaves the first as it is."""
    plain = reader.read("a cat BREAK a dog").at(0).parts[0][0].context
    heavy = reader.read("a cat BREAK a (dog:1.7)").at(0).parts[0][0].context
    assert torch.equal(plain[:77], heavy[:77])
    assert not torch.allclose(plain[77:], heavy[77:])
    assert float(heavy[77:].mean()) == pytest.approx(float(plain[77:].mean()), rel=1e-3)


def test_a_prompt_has_a_bounded_number_of_chunks(reader: Reader) -> None:
    """In English any that is no longer than the limit of characters has, but for BREAK."""
    most = next(row.default for row in LIMITS if row.name == "limit_prompt")
    assert isinstance(most, int)
    long = reader.read("a " * (most // 2), steps=1)
    assert MOST_CHUNKS / 2 < long.at(0).parts[0][0].context.shape[0] / 77 <= MOST_CHUNKS
    broken = "x BREAK " * (MOST_CHUNKS + 1)
    for prompt, negative in ((broken, ""), ("", broken), (f"a AND {broken}", "")):
        with pytest.raises(DanqingError) as caught:
            reader.read(prompt, negative)
        assert caught.value.code == "prompt_chunks"


def test_embeddings_leave_nothing_behind(reader: Reader) -> None:
    before = reader.read("! cat").at(0).parts[0][0].context
    assert not torch.equal(reader.read("tiemb cat").at(0).parts[0][0].context, before)
    assert torch.equal(reader.read("! cat").at(0).parts[0][0].context, before)


def tower(width: int, projection: int = 0) -> Any:
    torch.manual_seed(width)
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=projection or width,
        bos_token_id=49406,
        eos_token_id=EOS,
        pad_token_id=EOS,
    )
    return (CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)).eval()


@dataclass
class Towers:
    """A model as far as prompts see it."""

    encoders: tuple[TextEncoder, ...]
    key: str = "towers"


SDXL = Towers((TextEncoder("clip_l", tower(16), EOS), TextEncoder("open_clip_g", tower(24, 24), 0)))
SD2 = Towers((TextEncoder("open_clip_h", tower(20), 0),))


def tokens(prompt: str, pad: int) -> torch.Tensor:
    ids = [49406, *tokenizer_of("open_clip_g").encode(prompt), EOS]
    return torch.tensor([[*ids, *[pad] * (77 - len(ids))]])


@torch.inference_mode()
def test_sdxl_sets_both_encoders_side_by_side(tmp_path: Path) -> None:
    found = Reader(SDXL, Embeddings(tmp_path)).read("a cat", skip=3).at(0)
    (cond, _), *_ = found.parts
    first = SDXL.encoders[0].module(tokens("a cat", EOS), output_hidden_states=True)
    second = SDXL.encoders[1].module(tokens("a cat", 0), output_hidden_states=True)
    expected = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)[0]
    assert torch.allclose(cond.context, expected, atol=1e-5)
    assert cond.pooled is not None
    assert torch.allclose(cond.pooled, second.text_embeds[0], atol=1e-5)
    assert found.uncond.pooled is not None
    assert not found.uncond.context.any()
    assert not found.uncond.pooled.any()


@torch.inference_mode()
def test_sdxl_reads_clip_skip_where_the_option_says_so(tmp_path: Path) -> None:
    first = SDXL.encoders[0].module(tokens("a cat", EOS), output_hidden_states=True)
    found = Reader(SDXL, Embeddings(tmp_path)).read("a cat", "x", skip=3, sdxl_clip_l_skip=True).at(0)
    assert torch.allclose(found.parts[0][0].context[:, :16], first.hidden_states[-3][0], atol=1e-5)
    assert found.uncond.context.any()


@torch.inference_mode()
def test_sd2_takes_the_last_layer_but_one_and_pads_with_zeros(tmp_path: Path) -> None:
    module = SD2.encoders[0].module
    hidden = module(tokens("a cat", 0), output_hidden_states=True).hidden_states[-2]
    found = Reader(SD2, Embeddings(tmp_path)).read("a cat", skip=4).at(0).parts[0][0]
    assert torch.allclose(found.context, module.final_layer_norm(hidden)[0], atol=1e-5)
    assert found.pooled is None


def test_a_pair_of_vectors_goes_to_both_encoders(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "embeddings").mkdir()
    save_file(
        {"clip_l": torch.ones(2, 16), "clip_g": torch.ones(2, 24)}, tmp_path / "embeddings" / "pairword.safetensors"
    )
    save_file({"emb_params": torch.ones(2, 16)}, tmp_path / "embeddings" / "lonelyword.safetensors")
    reader = Reader(SDXL, Embeddings(tmp_path))
    found = reader.read("a pairword")
    assert "pairword" in found.infotext["TI hashes"]
    bare = Reader(SDXL, Embeddings(tmp_path / "none")).read("a !!").at(0).parts[0][0].context
    context = found.at(0).parts[0][0].context
    assert not torch.allclose(context[2:, :16], bare[2:, :16])
    assert not torch.allclose(context[2:, 16:], bare[2:, 16:])
    assert reader.read("a lonelyword").infotext == {}


def test_a_chunk_is_encoded_once_for_all_prompts_that_have_it(reader: Reader) -> None:
    cutter = Cutter(default_tokenizer(), reader.embeddings.triggers("clip_l", (("clip_l", 64),)), Emphasis.ORIGINAL)
    memory = ChunkMemory()
    ran: list[int] = []
    handle = reader.model.text.register_forward_pre_hook(
        lambda module, args, kwargs: ran.append(len(kwargs["input_ids"])), with_kwargs=True
    )

    def context(*prompts: str, skip: int = 1) -> torch.Tensor:
        call = Encode(reader.model, tuple(cutter.cut(prompt) for prompt in prompts), skip)
        return encode([call], CPU, memory)[0][0].context

    try:
        with torch.inference_mode():
            first = context("a cat BREAK on a red roof")
            assert ran == [2]
            assert torch.equal(context("a cat BREAK on a red roof"), first)
            assert ran == [2]  # both were known
            mixed = context("a dog BREAK on a red roof")
            assert ran == [2, 1]  # the roof was
            assert torch.equal(mixed[77:], first[77:])
            alone = encode([Encode(reader.model, (cutter.cut("a dog BREAK on a red roof"),), 1)], CPU)[0][0].context
            assert (mixed - alone).abs().max() < 1e-5
            context("a cat BREAK on a red roof", skip=2)
            assert ran == [2, 1, 2, 2]  # another layer is another encoding
            memory.forget("another model")
            context("a cat BREAK on a red roof")
            memory.forget(reader.model.key)
            context("a cat BREAK on a red roof")
            assert ran == [2, 1, 2, 2, 2]
    finally:
        handle.remove()


def test_the_memory_of_chunks_is_bounded() -> None:
    memory = ChunkMemory(most=1)
    with torch.inference_mode():
        for prompt in ("a cat", "a dog", "a cat"):
            cutter = Cutter(tokenizer_of("open_clip_h"), Triggers(), Emphasis.NONE)
            encode([Encode(SD2, (cutter.cut(prompt),), 1)], CPU, memory)
    assert len(memory._kept) == 1


def test_padding_is_encoded_once_for_a_checkpoint(reader: Reader) -> None:
    """Clip skip changes the prompts and not what they are filled up with."""
    plain, skipping = reader.read("a cat"), reader.read("a cat", skip=2)
    assert plain.empty is not None
    assert skipping.empty is not None
    assert torch.equal(plain.empty.context, skipping.empty.context)
    assert not torch.equal(plain.at(0).uncond.context, skipping.at(0).uncond.context)
