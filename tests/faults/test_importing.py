"""What starting up leaves out: each in a process of its own, where nothing is imported yet."""

from __future__ import annotations

import subprocess
import sys

ENGINE = """
import importlib.metadata, sys
import torch
from danqing.engine.imports import ABSENT, first_imports
listed, available = importlib.metadata.packages_distributions, torch.distributed.is_available
first_imports()
assert "diffusers.models.unets.unet_2d_condition" in sys.modules
assert not [name for name in sys.modules if name.split(".")[0] in (*ABSENT, "boto3")]
assert importlib.metadata.packages_distributions is listed and torch.distributed.is_available is available
import scipy.special
from danqing.engine import build
"""

PAGE = """
import ast, inspect
parse, found, parsed = ast.parse, inspect.getfile, []
ast.parse = lambda source, *rest, **more: parsed.append(len(source)) or parse(source, *rest, **more)
from danqing.ui.importing import without_stubs
with without_stubs():
    import gradio
assert max(parsed, default=0) < 1000, parsed  # no source file of a component
assert inspect.getfile is found
"""


def runs(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr


def test_the_engine_imports_what_it_uses() -> None:
    runs(ENGINE)


def test_gradio_writes_nothing_for_editors() -> None:
    runs(PAGE)
