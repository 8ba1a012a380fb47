"""Where things lie on a box. Standard library only: the prefetch starts before a cold disk has given up anything more."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ROOT_VARIABLE = "DANQING_BOX_ROOT"
"""A folder in the place of /, for tests."""

USER = "danqing"
PORT = 7860


@dataclass(frozen=True, slots=True)
class Places:
    """All paths, below `root`."""

    root: Path = Path("/")

    @classmethod
    def here(cls) -> Places:
        """Of this machine."""
        return cls(Path(os.environ.get(ROOT_VARIABLE, "/")))

    @property
    def share(self) -> Path:
        """What came with the image."""
        return self.root / "opt/danqing/share"

    @property
    def image(self) -> Path:
        """Which image this is: JSON."""
        return self.share / "image.json"

    @property
    def prefetch_list(self) -> Path:
        return self.share / "prefetch.list"

    @property
    def state(self) -> Path:
        """What is this machine's own and survives a reboot."""
        return self.root / "var/lib/danqing"

    @property
    def data(self) -> Path:
        """Danqing's data folder; a data volume is mounted here."""
        return self.state / "data"

    @property
    def image_models(self) -> Path:
        """The image's own models, while a data volume lies over the data folder."""
        return self.state / "image-models"

    @property
    def report(self) -> Path:
        return self.state / "boot-report.json"

    @property
    def last_report(self) -> Path:
        """Of the boot before this one."""
        return self.state / "boot-report.last.json"

    @property
    def done(self) -> Path:
        """There when the first boot's work is done."""
        return self.state / "firstboot.json"

    @property
    def run(self) -> Path:
        """Gone at the next boot."""
        return self.root / "run/danqing"

    @property
    def status(self) -> Path:
        return self.run / "status.json"

    @property
    def password(self) -> Path:
        """The administrator's password, for root only."""
        return self.root / "root/danqing-password"

    @property
    def local_env(self) -> Path:
        """This machine's own settings, read by the units after the image's."""
        return self.root / "etc/danqing/local.env"

    @property
    def cache(self) -> Path:
        return self.root / "var/cache/danqing"
