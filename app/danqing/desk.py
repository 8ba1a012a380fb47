"""What administrators see of this service on its page: its log, versions, a bundle for whoever helps, a restart."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
import time
from collections.abc import Mapping

from danqing.log import Tail


class Desk:
    """The service's own end of the System tab.

    Args:
        tail: keeps the last lines of the log.
    """

    def __init__(self, tail: Tail) -> None:
        self._tail = tail

    def lines(self, after: int = 0) -> tuple[int, list[str]]:
        """Lines of the log behind number `after`, without secrets, and the number of the last one."""
        from danqing.box.logs import clean

        number, lines = self._tail.after(after)
        return number, [clean(line) for line in lines]

    def versions(self) -> dict[str, object]:
        """Of Danqing, Python, the packages that matter, the system."""
        from danqing.box.logs import versions
        from danqing.box.places import Places

        found = versions(Places.here())
        return {**found, "system": str(found["system"]).partition("=")[2].strip('"')}

    def bundle(self, told: Mapping[str, object]) -> bytes:
        """A .tar.gz of what was `told`, versions and the log; every text of it went through the cleaning of secrets."""
        from danqing.box.logs import clean

        files = {
            "versions.json": json.dumps(self.versions(), indent=1, ensure_ascii=False),
            "log.txt": "\n".join(self.lines()[1]) + "\n",
            **{name: json.dumps(value, indent=1, ensure_ascii=False, default=str) for name, value in told.items()},
        }
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            for name, text in files.items():
                content = clean(text).encode("utf-8", "replace")
                info = tarfile.TarInfo(f"danqing-bundle/{name}")
                info.size, info.mtime, info.mode = len(content), int(time.time()), 0o600
                archive.addfile(info, io.BytesIO(content))
        return out.getvalue()

    @property
    def restarts(self) -> bool:
        """Whether somebody starts the service again when it ends: systemd says so to its own."""
        return "INVOCATION_ID" in os.environ

    def restart(self) -> None:
        """End the service as a signal does; running jobs are drawn after the next start."""
        os.kill(os.getpid(), signal.SIGTERM)
