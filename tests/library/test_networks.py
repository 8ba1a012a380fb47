"""Networks on disk: names, aliases, hashes, and files that come while the service runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from danqing.errors import DanqingError
from danqing.library.networks import Networks


def put(data: Path, name: str, folder: str = "Lora", seed: int = 0, **metadata: str) -> Path:
    import numpy as np

    path = data / "models" / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"a": np.full((3,), seed, np.float32)}, path, metadata=metadata or None)
    return path


def test_names_and_aliases(tmp_path: Path) -> None:
    networks = Networks(tmp_path)
    assert networks.find("lora", "one") is None
    one = put(tmp_path, "sub/one.safetensors", ss_output_name="first")
    found = networks.find("lora", "one")
    assert found is not None
    assert (found.name, found.alias, found.path) == ("one", "first", one)
    assert networks.find("lora", "first") == found
    assert networks.find("lora", "First") is None
    assert networks.find("lora", "sub/one") is None
    put(tmp_path, "two.safetensors", "LyCORIS", ss_output_name="first")
    assert networks.find("lora", "first") is None, "two files have this alias"
    assert [n.name for n in networks.loras()] == ["one", "two"]
    put(tmp_path, "first.safetensors")
    own = networks.find("lora", "first")
    assert own is not None
    assert own.name == "first", "a file's own name comes before aliases"
    put(tmp_path, "three.safetensors", ss_output_name="None")
    assert networks.find("lora", "None") is None


def test_of_one_name_the_last_counts_and_order_is_natural(tmp_path: Path) -> None:
    for name in ("b10.safetensors", "b9.safetensors", "A.safetensors", "z/b9.safetensors", "no.txt"):
        put(tmp_path, name)
    networks = Networks(tmp_path)
    assert [n.name for n in networks.loras()] == ["A", "b9", "b10", "b9"]
    found = networks.find("lora", "b9")
    assert found is not None
    assert found.path.parent.name == "z"


def test_hypernetworks(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "hypernetworks"
    folder.mkdir(parents=True)
    (folder / "h.pt").write_bytes(b"weights")
    networks = Networks(tmp_path)
    found = networks.find("hypernet", "h")
    assert found is not None
    assert networks.hypernetworks() == [found]
    assert networks.find("lora", "h") is None
    assert networks.short_hash(found) == hashlib.sha256(b"weights").hexdigest()[:10]


def test_hashes_are_kohyas_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data without the header, so that new metadata leaves the hash as it is."""
    one, two = put(tmp_path, "one.safetensors", seed=1), put(tmp_path, "two.safetensors", seed=1, note="x")
    given = put(tmp_path, "given.safetensors", sshs_model_hash="abcdef0123456789")
    networks = Networks(tmp_path)
    by_name = {n.name: n for n in networks.loras()}
    raw = one.read_bytes()
    expected = hashlib.sha256(raw[8 + int.from_bytes(raw[:8], "little") :]).hexdigest()[:12]
    assert networks.known_hash(by_name["one"]) is None
    assert networks.by_hash(expected) is None
    assert networks.short_hash(by_name["one"]) == networks.short_hash(by_name["two"]) == expected
    assert one.read_bytes() != two.read_bytes()
    assert networks.short_hash(by_name["given"]) == "abcdef012345"
    monkeypatch.setattr("danqing.library.networks._digest", lambda network: pytest.fail("read again"))
    again = Networks(tmp_path)
    found = again.find("lora", "one")
    assert found is not None
    assert again.short_hash(found) == expected
    named = again.by_hash("abcdef012345")
    assert named is not None
    assert named.path == given


def test_a_header_longer_than_any_file_has_no_hash(tmp_path: Path) -> None:
    path = tmp_path / "models" / "Lora" / "a.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes((2**63).to_bytes(8, "little") + b"{}")
    networks = Networks(tmp_path)
    with pytest.raises(DanqingError) as caught:
        networks.short_hash(networks.loras()[0])
    assert caught.value.code == "model_broken"


def test_a_replaced_file_is_another(tmp_path: Path) -> None:
    put(tmp_path, "one.safetensors", seed=1, ss_output_name="old")
    networks = Networks(tmp_path)
    before = networks.find("lora", "one")
    assert before is not None
    first = networks.short_hash(before)
    put(tmp_path, "one.safetensors", seed=2, ss_output_name="newer")
    after = networks.find("lora", "one")
    assert after is not None
    assert (after.alias, after.mtime_ns != before.mtime_ns) == ("newer", True)
    assert networks.short_hash(after) != first


def test_metadata(tmp_path: Path) -> None:
    tags = {"a": {"cat": 3}}
    path = put(tmp_path, "one.safetensors", ss_tag_frequency=json.dumps(tags), ssmd_cover_images="big", x="{no json")
    path.with_suffix(".json").write_text(json.dumps({"activation text": "cat", "preferred weight": 0.7}))
    broken = tmp_path / "models" / "Lora" / "broken.safetensors"
    broken.write_bytes(b"\xff" * 40)
    found = {n.name: n for n in Networks(tmp_path).loras()}
    assert found["one"].metadata == {"ss_tag_frequency": tags, "x": "{no json"}
    assert found["one"].user_metadata() == {"activation text": "cat", "preferred weight": 0.7}
    assert found["broken"].metadata == {}
    assert found["broken"].user_metadata() == {}
