"""What is remembered about Gradio's components changes nothing of what they say."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest
from gradio import blocks, component_meta

from danqing.ui.pace import quicken


def made() -> tuple[gr.Blocks, list[dict[str, Any]]]:
    with gr.Blocks() as demo:
        gr.Slider(1, 9, 3, label="steps", elem_id="a")
        gr.Dropdown(["x", "y"], value="y", multiselect=True)
        gr.Textbox("text", lines=2)
        gr.Image(type="pil")
    return demo, [{**block.get_config(), "id": 0} for block in demo.blocks.values()]


def test_components_describe_themselves_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(blocks), "inspect", vars(blocks)["inspect"])
    monkeypatch.setitem(vars(component_meta), "inspect", vars(component_meta)["inspect"])
    demo, before = made()
    quicken(demo)
    assert made()[1] == before == made()[1]
    assert len(before) == 4 + len([block for block in demo.blocks.values() if block.get_block_class() == "form"])
    assert 0 < demo._queue.sleep_when_free < 0.1
    assert blocks.inspect.isclass(gr.Slider)
