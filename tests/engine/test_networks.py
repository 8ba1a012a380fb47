"""What a prompt's network tags come to."""

from __future__ import annotations

from pathlib import Path

import pytest

from danqing.engine.calls import Adapter
from danqing.engine.networks import resolve
from danqing.library.networks import Networks
from danqing.prompt.networks import network_tags

from ..adapters.support import normal, write


@pytest.fixture
def networks(tmp_path: Path) -> Networks:
    folder = tmp_path / "models" / "Lora"
    write(folder / "one.safetensors", {"a": normal(3)}, {"sshs_model_hash": "1" * 64, "ss_output_name": "first"})
    write(folder / "two.safetensors", {"a": normal(4)}, {"sshs_model_hash": "2" * 64})
    hyper = tmp_path / "models" / "hypernetworks" / "h.pt"
    hyper.parent.mkdir()
    hyper.write_bytes(b"x")
    return Networks(tmp_path)


def strengths(networks: Networks, prompt: str) -> list[tuple[str, str, float, float, int]]:
    return [(a.kind, a.path.stem, a.text, a.unet, a.rank) for a in resolve(network_tags(prompt), networks).adapters]


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("<lora:one>", ("lora", "one", 1.0, 1.0, 0)),
        ("<lora:one:0.5>", ("lora", "one", 0.5, 0.5, 0)),
        ("<lora:one:0.5:0.25>", ("lora", "one", 0.5, 0.25, 0)),
        ("<lora:one:1:2:8>", ("lora", "one", 1.0, 2.0, 8)),
        ("<lora:one:te=0.2:unet=1.0>", ("lora", "one", 0.2, 1.0, 0)),
        ("<lora:one:te=0.2>", ("lora", "one", 0.2, 0.2, 0)),
        ("<lora:one:0.7:unet=-1>", ("lora", "one", 0.7, -1.0, 0)),
        ("<lora:one:0.7:dyn=4>", ("lora", "one", 0.7, 0.7, 4)),
        ("<lyco:first:1.5>", ("lora", "one", 1.5, 1.5, 0)),
        ("<hypernet:h>", ("hypernet", "h", 0.0, 1.0, 0)),
        ("<hypernet:h:0.3>", ("hypernet", "h", 0.0, 0.3, 0)),
    ],
)
def test_strengths(networks: Networks, tag: str, expected: tuple[str, str, float, float, int]) -> None:
    assert strengths(networks, f"a cat {tag}") == [expected]


def test_several_with_their_hashes(networks: Networks) -> None:
    found = resolve(network_tags("<lora:two:1> a <hypernet:h:1> <lora:first:0.5><other:x:1>"), networks)
    assert [a.path.stem for a in found.adapters] == ["two", "h", "one"]
    assert found.infotext == (("Lora hashes", f"two: {'2' * 12}, first: {'1' * 12}"),)
    assert (found.notes, found.added) == ((), "")


@pytest.mark.parametrize("tag", ["<lora:nope:1>", "<hypernet:one:1>", "<lora::1>", "<lora:te=1>"])
def test_unknown_names_are_left_out_with_a_note(networks: Networks, tag: str) -> None:
    found = resolve(network_tags(f"{tag}<lora:one:1>"), networks)
    assert [a.path.stem for a in found.adapters] == ["one"]
    assert len(found.notes) == 1
    assert found.infotext == (("Lora hashes", f"one: {'1' * 12}"),)


@pytest.mark.parametrize(
    "tag", ["<lora:one:x>", "<lora:one:nan>", "<lora:one:1:inf>", "<lora:one:1:1:2.5>", "<lora:one:te=>"]
)
def test_strengths_that_are_no_numbers(networks: Networks, tag: str) -> None:
    found = resolve(network_tags(tag), networks)
    assert (found.adapters, len(found.notes), found.infotext) == ((), 1, ())


def test_networks_of_every_prompt(networks: Networks) -> None:
    found = resolve(network_tags("a"), networks, always_lora="two", always_hypernetwork="h")
    assert [(a.path.stem, a.unet) for a in found.adapters] == [("two", 1.0), ("h", 1.0)]
    assert found.added == "<lora:two:1.0><hypernet:h:1.0>"
    named = resolve(network_tags("<lora:two:0.3>"), networks, always_lora="two", always_hypernetwork="gone")
    assert [(a.path.stem, a.unet) for a in named.adapters] == [("two", 0.3)]
    assert named.added == ""


def test_an_adapter_knows_its_files_state(networks: Networks) -> None:
    (before,) = resolve(network_tags("<lora:one:1>"), networks).adapters
    write(before.path, {"a": normal(3, seed=2)})
    (after,) = resolve(network_tags("<lora:one:1>"), networks).adapters
    assert before != after
    assert before == Adapter("lora", before.path, 1.0, 1.0, before.stamp)
