"""The review of the pinned packages: what it says of a weakness, and of pins that have changed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def audit() -> Any:
    spec = importlib.util.spec_from_file_location("audit", ROOT / "tools" / "audit.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["audit"] = module
    spec.loader.exec_module(module)
    return module


def test_what_has_to_be_looked_at() -> None:
    tool = audit()
    pinned = {"a": "1", "b": "2"}
    review = {"date": "2026-01-01", "pins": tool.fingerprint(pinned), "versions": pinned, "accepted": ["OLD-1"]}
    assert tool.check(None, pinned, review) == []
    assert tool.check(None, {"a": "1", "b": "3"}, review) == ["not reviewed since 2026-01-01: b 2 → 3"]
    assert tool.check(None, {"a": "1"}, review) == ["not reviewed since 2026-01-01: packages were taken out"]
    found = [tool.Weakness("a", "1", "OLD-1"), tool.Weakness("b", "2", "NEW-1")]
    assert tool.check(found, pinned, review) == ["b 2: NEW-1"]


def test_pins_and_record_are_read() -> None:
    tool = audit()
    assert tool.pins()["starlette"]
    assert set(tool.record()) == {"date", "how", "pins", "versions", "accepted"}
