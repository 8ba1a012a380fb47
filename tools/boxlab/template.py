"""The image's template for the Packer that Debian ships (1.6.6): a copy without what only newer ones read."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from .host import ROOT, LabError

PACKER = ROOT / "packer"
MODERN = re.compile(r"^[ \t]*# modern: begin\n.*?^[ \t]*# modern: end\n", re.DOTALL | re.MULTILINE)


def cut(text: str) -> str:
    """The text without the blocks between the marks.

    Raises:
        LabError: a mark has no partner.
    """
    left = MODERN.sub("", text)
    if "# modern:" in left:
        raise LabError("packer: a line '# modern: begin' or '# modern: end' has no partner")
    return left


def old_template(folder: Path) -> Path:
    """Write the template for Packer 1.6.6 into the empty `folder` and return it.

    `plugins.pkr.hcl` stays behind: that Packer has its plugins built in and knows no `required_plugins`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("danqing.pkr.hcl", "variables.pkr.hcl"):
        (folder / name).write_text(cut((PACKER / name).read_text()))
    return folder


def var_file(base: str) -> Path:
    """Raises LabError when there is no such base."""
    path = PACKER / "bases" / f"{base}.pkrvars.hcl"
    if not path.exists():
        raise LabError(f"no base {base}; there are {', '.join(bases())}")
    return path


def bases() -> list[str]:
    return sorted(path.name.removesuffix(".pkrvars.hcl") for path in (PACKER / "bases").glob("*.pkrvars.hcl"))
