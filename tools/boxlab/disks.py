"""Images and root disks: an image is a stack of read-only folders, a disk an overlay with a folder of its own on top.

Snapshots cost nothing that way: the stopped machine's own folder becomes the image's topmost layer, and the machine gets a
new one over it.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .host import LabError, run


@dataclass(frozen=True)
class Image:
    """An AMI's content: layers, the topmost first."""

    id: str
    layers: tuple[Path, ...]


class Images:
    """The lab's images, kept in `folder`/images.json so that a clean-up and the tests can read them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def index(self) -> Path:
        return self.folder / "images.json"

    def all(self) -> dict[str, Image]:
        if not self.index.exists():
            return {}
        rows = json.loads(self.index.read_text())
        return {name: Image(name, tuple(map(Path, layers))) for name, layers in rows.items()}

    def get(self, image: str) -> Image:
        """Raises LabError when the lab has no disk for that image."""
        try:
            return self.all()[image]
        except KeyError:
            raise LabError(f"{image} has no disk in this lab") from None

    def add(self, image: Image) -> None:
        rows = {name: [str(layer) for layer in known.layers] for name, known in self.all().items()}
        rows[image.id] = [str(layer) for layer in image.layers]
        part = self.index.with_suffix(".part")
        part.write_text(json.dumps(rows, indent=1))
        part.replace(self.index)


class Disk:
    """A machine's root disk under `folder`: `upper` is its own layer, `root` where the whole is mounted."""

    def __init__(self, folder: Path, layers: tuple[Path, ...]) -> None:
        self.folder = folder
        self.layers = layers
        self.upper = folder / "upper"
        self.root = folder / "root"

    def mount(self) -> None:
        """Mount the overlay at `root`; already mounted is fine."""
        for name in ("upper", "work", "root"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if os.path.ismount(self.root):
            return
        lower = ":".join(map(str, self.layers))
        options = f"lowerdir={lower},upperdir={self.upper},workdir={self.folder / 'work'}"
        run("mount", "-t", "overlay", "danqing-box", "-o", options, self.root)

    def unmount(self) -> None:
        if os.path.ismount(self.root):
            run("umount", self.root)

    def freeze(self, layer: Path) -> tuple[Path, ...]:
        """Make what the machine wrote the read-only folder `layer` and go on above it; the machine must be stopped.

        Returns:
            The layers of the image, the topmost first.
        """
        self.unmount()
        layer.parent.mkdir(parents=True, exist_ok=True)
        self.upper.rename(layer)
        shutil.rmtree(self.folder / "work", ignore_errors=True)
        self.layers = (layer, *self.layers)
        self.mount()
        return self.layers

    def remove(self) -> None:
        self.unmount()
        shutil.rmtree(self.folder, ignore_errors=True)
