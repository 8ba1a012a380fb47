"""torchvision can be imported, whatever build of torch stands beside it."""

from __future__ import annotations

import subprocess
import sys

TOGETHER = """
import torch, danqing.torchvision_shim as shim
import torchvision, spandrel
from diffusers import UNet2DConditionModel
from transformers import AutoImageProcessor
print(shim.LIBRARY is None, hasattr(torch.ops.torchvision, "nms"))
"""

ABSENT = """
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "torchvision" else found(name, package)
import danqing.torchvision_shim as shim
print(shim.LIBRARY is None)
"""


def run(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_torchvision_and_those_who_need_it_are_imported() -> None:
    assert run(TOGETHER)[1] == "True"


def test_without_torchvision_nothing_is_defined() -> None:
    assert run(ABSENT) == ["True"]
