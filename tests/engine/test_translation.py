"""The translation model in transformers' layout, small and with random weights: it runs, and only runs of Chinese reach it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import sentencepiece
from transformers import MarianConfig, MarianMTModel

from danqing.engine.translation import Translator, plain
from danqing.errors import DanqingError
from danqing.library import translator

SENTENCES = [
    "一只猫坐在窗台上",
    "雨夜的街道与霓虹灯",
    "a cat sits on the windowsill",
    "a street in the rain at night",
] * 8


def write(data: Path) -> None:
    """A model of a few thousand weights with a vocabulary of its own."""
    folder = translator.folder_of(data)
    folder.mkdir(parents=True)
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_writer=written, vocab_size=48, hard_vocab_limit=False, minloglevel=2
    )
    pieces = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    words = [pieces.id_to_piece(number) for number in range(pieces.get_piece_size())]
    vocabulary = {"</s>": 0, "<unk>": 1}
    for word in words:
        vocabulary.setdefault(word, len(vocabulary))
    vocabulary["<pad>"] = len(vocabulary)
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(written.getvalue())
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    config = MarianConfig(
        **{"vocab_size": len(vocabulary), "d_model": 16, "encoder_layers": 1, "decoder_layers": 1},
        **{"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16},
        **{"pad_token_id": len(vocabulary) - 1, "eos_token_id": 0, "decoder_start_token_id": len(vocabulary) - 1},
        **{"max_position_embeddings": 96, "forced_eos_token_id": 0, "bos_token_id": 0},
    )
    MarianMTModel(config).save_pretrained(folder)


def test_a_model_on_disk_translates_each_text_alike_alone_and_in_company(tmp_path: Path) -> None:
    with pytest.raises(DanqingError, match=r"source\.spm"):
        Translator(tmp_path).translate(["猫"])
    write(tmp_path)
    assert translator.is_there(tmp_path)
    model = Translator(tmp_path)
    together = model.translate(["一只猫", "雨夜的街道", "窗台上"])
    assert len(together) == 3
    assert together[0] == model.translate(["一只猫"])[0]
    assert not set("()[]{}<>|:") & set("".join(together))
    (translator.folder_of(tmp_path) / "model.safetensors").write_bytes(b"nothing")
    model.forget()
    with pytest.raises(DanqingError) as caught:
        model.translate(["猫"])
    assert caught.value.code == "model_broken"


def test_a_translation_is_a_piece_of_a_prompt() -> None:
    assert plain("A cat (red), sits: on [the] sill.") == "a cat red , sits on the sill"
