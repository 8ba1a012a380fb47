"""Interrogation, with real networks of transformers that are very small and know nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from danqing.engine import interrogate as room
from danqing.errors import DanqingError

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


def test_a_caption_and_the_best_of_each_list(data: Path) -> None:
    manner = room.Manner(shortest=4, longest=8)
    prompt = room.interrogate(Image.new("RGB", (40, 30), "red"), data, manner=manner)
    caption, artist, *flavors = prompt.split(", ")
    assert 1 <= len(caption.split()) <= 8
    assert set(caption.split()) <= set(WORDS)
    assert artist in ("by ink", "by oil")
    assert len(flavors) == 2
    assert set(flavors) < {"red", "blue", "tree"}
    assert room.interrogate(Image.new("RGB", (40, 30), "red"), data, manner=manner) == prompt


def test_without_weights_the_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DanqingError, match=r"config\.json, model\.safetensors, tokenizer\.json") as caught:
        room.interrogate(Image.new("RGB", (8, 8)), tmp_path)
    assert caught.value.code == "files_missing"
    assert caught.value.params["folder"] == str(tmp_path / "models" / "interrogate" / "blip")


def test_broken_weights_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "interrogate" / "blip"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_text("{}")
    with pytest.raises(DanqingError) as caught:
        room.interrogate(Image.new("RGB", (8, 8)), tmp_path)
    assert caught.value.code == "model_broken"


def test_lists_are_cut_and_say_how_many(tmp_path: Path) -> None:
    path = tmp_path / "x_top3.txt"
    path.write_text("a\n\n b \nc\n")
    assert room.entries_of(path, 2) == ["a", "b"]
    assert room.entries_of(path) == ["a", "b", "c"]
    assert (room.top_of(path), room.top_of(tmp_path / "plain.txt")) == (3, 1)
