"""What a prompt names and the picture is drawn without reaches its owner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from danqing.engine.protocol import Message
from danqing.errors import DanqingError
from danqing.request import GenerateRequest

from . import tiny
from .conftest import Bench


def test_names_that_are_not_there_or_do_not_fit_are_told_once(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    (tmp_path / "embeddings").mkdir()
    save_file({"emb_params": torch.ones(2, 768)}, tmp_path / "embeddings" / "widest.safetensors")
    (tmp_path / "models" / "Lora").mkdir(parents=True, exist_ok=True)
    inside = {"bundle_emb.inner.emb_params": torch.ones(2, 99), "bundle_emb.other.emb_params": torch.ones(2, 99)}
    save_file(inside, tmp_path / "models" / "Lora" / "bundle.safetensors")
    stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    layer = {"lora_down.weight": torch.zeros(2, 32), "lora_up.weight": torch.zeros(32, 2)}
    partly = {f"{place}.{key}": value.clone() for place in (stem, "lora_unet_gone") for key, value in layer.items()}
    strange = {"lora_unet_mid_block_attentions_0_proj_in.of_no_kind": torch.ones(2)}
    save_file({**partly, **strange, **inside}, tmp_path / "models" / "Lora" / "partly.safetensors")
    (tmp_path / "embeddings" / "torn.pt").write_bytes(b"no embedding")
    bench, told = Bench(tmp_path), []

    def hear(message: Message) -> None:
        if message.body["event"] == "note":
            told.append((message.body["job"], DanqingError.from_dict(message.body["note"])))
        bench._hear(message)

    bench.engine._emit = hear
    fields: dict[str, Any] = {"steps": 2, "width": 64, "height": 64, "seed": 3, "sampler": "Euler"}
    tags = "<lora:gone:1><hypernet:gone:1><lora:gone:1>"
    drawn = bench.draw(
        named=GenerateRequest(prompt=f"a widest cat {tags}", negative_prompt="Torn", n_iter=2, **fields),
        bare=GenerateRequest(prompt="a widest cat", negative_prompt="Torn", n_iter=2, **fields),
        bundle=GenerateRequest(prompt="an inner cat <lora:bundle:1>", n_iter=2, **fields),
        partly=GenerateRequest(prompt="a cat <lora:partly:1>", n_iter=2, **fields),
        many=GenerateRequest(prompt="".join(f"<lora:no{n}:1>" for n in range(50)), **fields),
    )
    assert all(one.error is None for one in drawn.values())
    assert np.array_equal(drawn["named"].images[1], drawn["bare"].images[1])
    codes = [note.code for job, note in told if job == "named"]
    assert sorted(codes) == ["embedding_misfit", "model_broken", "network_absent", "network_absent"]
    names = {note.params["name"] for job, note in told if job == "bare"}
    assert {str(name).removesuffix(".pt") for name in names} == {"widest", "torn"}
    assert [(note.code, note.params["name"]) for job, note in told if job == "bundle"] == [
        ("embedding_misfit", "inner")
    ]
    (note,) = (note for job, note in told if job == "partly")
    assert (note.code, note.params["count"], note.params["total"]) == ("adapter_partly", 2, 3)
    assert len([job for job, _ in told if job == "many"]) == 20
