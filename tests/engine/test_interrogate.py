"""Interrogation, with real networks of transformers that are very small and know nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from danqing.engine import deepbooru
from danqing.engine import interrogate as room
from danqing.engine.interrogators import Manner
from danqing.errors import DanqingError
from danqing.library.fetch import chosen
from danqing.library.manifest import Kind, read_manifest
from tests.engine.tagger import TAGS, write_tagger

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", "a", "red", "blue", "cat", "dog", "tree", "by", "ink", "oil"]


def write_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.add_special_tokens(WORDS[:5])
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BlipConfig, BlipForConditionalGeneration, CLIPConfig, CLIPModel

    root = tmp_path_factory.mktemp("interrogate")
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    seen = {**size, "image_size": 32, "patch_size": 16}
    said = {**size, "vocab_size": len(WORDS), "max_position_embeddings": 64}
    torch.manual_seed(0)
    blip = BlipForConditionalGeneration(
        BlipConfig(
            vision_config=seen,
            text_config={
                **said,
                "encoder_hidden_size": 16,
                "bos_token_id": 4,
                "sep_token_id": 3,
                "pad_token_id": 0,
                "eos_token_id": 3,
            },
        )
    )
    clip = CLIPModel(
        CLIPConfig(vision_config=seen, text_config={**said, "bos_token_id": 2, "eos_token_id": 3}, projection_dim=8)
    )
    for name, model in (("blip", blip), ("clip", clip)):
        folder = root / "models" / "interrogate" / name
        model.save_pretrained(folder)
        write_tokenizer(folder)
    lists = root / "interrogate"
    lists.mkdir()
    (lists / "artists.txt").write_text("by ink\n\nby oil\n")
    (lists / "flavors_top2.txt").write_text("red\nblue\ntree\n")
    return root


def ask(data: Path, name: str = "clip", **manner: Any) -> str:
    return room.Interrogators(data).ask(Image.new("RGB", (40, 30), "red"), name, Manner(**manner))


def test_a_caption_and_the_best_of_each_list(data: Path) -> None:
    prompt = ask(data, shortest=4, longest=8)
    caption, artist, *flavors = prompt.split(", ")
    assert 1 <= len(caption.split()) <= 8
    assert set(caption.split()) <= set(WORDS)
    assert artist in ("by ink", "by oil")
    assert len(flavors) == 2
    assert set(flavors) < {"red", "blue", "tree"}
    assert ask(data, shortest=4, longest=8) == prompt


def test_lists_are_left_out_and_say_how_sure_they_are(data: Path) -> None:
    plain = ask(data, shortest=4, longest=8).split(", ")
    ranked = ask(data, shortest=4, longest=8, skip=("artists",), ranks=True).split(", ")
    assert ranked[0] == plain[0]
    found = [re.fullmatch(r"\((\w+):(0\.\d{3})\)", word) for word in ranked[1:]]
    assert [match[1] for match in found if match] == plain[2:]
    assert 0 < sum(float(match[2]) for match in found if match) < 1


def test_networks_are_kept_where_that_is_wanted(data: Path) -> None:
    asked, picture = room.Interrogators(data), Image.new("RGB", (8, 8))
    asked.ask(picture, "clip", Manner(shortest=1, longest=2))
    assert not asked.kept
    asked.ask(picture, "clip", Manner(shortest=1, longest=2, keep=True))
    assert {path.name for path in asked.kept} == {"blip", "clip"}
    asked.forget()
    assert not asked.kept


@pytest.mark.parametrize(
    ("name", "files", "folder", "group"),
    [
        ("clip", "config.json, model.safetensors, tokenizer.json", "blip", "interrogate"),
        ("deepdanbooru", "model-resnet_custom_v3.pt", "deepdanbooru", "interrogate-tags"),
    ],
)
def test_without_weights_the_files_are_named(tmp_path: Path, name: str, files: str, folder: str, group: str) -> None:
    with pytest.raises(DanqingError) as caught:
        ask(tmp_path, name)
    assert caught.value.code == "interrogator_missing"
    assert caught.value.params["files"] == files
    assert caught.value.params["folder"] == str(tmp_path / "models" / "interrogate" / folder)
    command = str(caught.value.params["command"])
    assert command.endswith(group)
    assert {row.kind for row in chosen(read_manifest(), [group])} == {Kind.INTERROGATOR}


def test_broken_weights_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "interrogate" / "blip"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_text("{}")
    with pytest.raises(DanqingError) as caught:
        ask(tmp_path)
    assert caught.value.code == "model_broken"


def test_tags_of_a_picture_follow_the_weights(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "torch_deepdanbooru"
    write_tagger(folder, TAGS)
    tagger = deepbooru.load(folder / "model-resnet_custom_v3.pt", torch.device("cpu"))
    pixels = torch.rand(1, 3, 64, 64)
    assert torch.allclose(tagger.probabilities(pixels), by_hand(tagger, pixels), atol=1e-5)
    words = ask(tmp_path, "deepdanbooru", threshold=0.0).split(", ")
    assert words == ["1girl", "hat \\(red\\)", "long hair", "tree"]


def by_hand(tagger: deepbooru.Tagger, pixels: torch.Tensor) -> torch.Tensor:
    """The same network out of torch's modules, its padding written out."""
    from torch.nn.functional import conv2d, max_pool2d, pad

    rows = [(layer.weight, layer.bias) for layer in tagger.convolutions]
    x = max_pool2d(pad(conv2d(pad(pixels, (2, 3, 2, 3)), *rows[0], 2).relu(), (0, 1, 0, 1), value=-1e9), 3, 2)
    for at, stride in ((1, 1), (8, 2)):
        short = conv2d(x, *rows[at], stride)
        inner = conv2d(x, *rows[at + 1]).relu()
        inner = conv2d(pad(inner, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1)), *rows[at + 2], stride).relu()
        x = (conv2d(inner, *rows[at + 3]) + short).relu()
        inner = conv2d(conv2d(x, *rows[at + 4]).relu(), *rows[at + 5], 1, 1).relu()
        x = (conv2d(inner, *rows[at + 6]) + x).relu()
    return conv2d(x, rows[-1][0]).mean((-2, -1))[0].sigmoid()


@pytest.mark.parametrize(
    ("tags", "spoil"), [(TAGS[1:], ""), (TAGS, "n_Conv_3.weight"), ([], "tags"), (TAGS, "n_Conv_15.weight")]
)
def test_a_broken_tagger_is_named(tmp_path: Path, tags: list[str], spoil: str) -> None:
    write_tagger(tmp_path / "models" / "interrogate" / "deepdanbooru", tags, spoil=spoil)
    with pytest.raises(DanqingError, match=r"model-resnet_custom_v3\.pt") as caught:
        ask(tmp_path, "deepdanbooru")
    assert caught.value.code == "model_broken"


def test_how_tags_are_written() -> None:
    sure = [0.9, 0.4, 0.7, 1.0, 0.8]
    assert deepbooru.written(TAGS, sure, Manner()) == r"1girl, hat \(red\), tree"
    assert deepbooru.written(TAGS, sure, Manner(by_name=False, spaces=False, escape=False)) == "1girl, tree, hat_(red)"
    assert deepbooru.written(TAGS, sure, Manner(left_out="hat (red), 1girl", ranks=True)) == "(tree:0.800)"


def test_lists_are_cut_and_say_how_many(tmp_path: Path) -> None:
    path = tmp_path / "x_top3.txt"
    path.write_text("a\n\n b \nc\n")
    assert room.entries_of(path, 2) == ["a", "b"]
    assert room.entries_of(path) == ["a", "b", "c"]
    assert (room.top_of(path), room.top_of(tmp_path / "plain.txt")) == (3, 1)
