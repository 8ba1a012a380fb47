"""Compiled code on disk: written whole, checked before it is used, kept apart for every device and build of torch.

    ROOT/<fingerprint of the device>/<architecture>-<variant>-<height>x<width>/manifest.json, network.pt2

A folder appears under its name by one rename when everything in it is on the disk. Whatever does not fit its manifest, or has
none, is as good as absent: it is made again. Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

FORMAT = 1
"""Of the manifest and of the inputs of what it describes; another number is another program's."""

MANIFEST = "manifest.json"
PACKAGE = "network.pt2"
STATE = "state.json"
LOCK = "lock"
LOCK_TRIES = 10


@dataclass(frozen=True, slots=True)
class Want:
    """What could be compiled: a network's architecture (`compile_unet`, `compile_vae`), a variant, a latent's size."""

    architecture: str
    variant: str
    height: int
    width: int

    @property
    def name(self) -> str:
        return f"{self.architecture}-{self.variant}-{self.height}x{self.width}"


@dataclass(frozen=True, slots=True)
class Artefact:
    """A manifest. `gain`: eager seconds by compiled seconds; `difference`: largest deviation by the largest number."""

    want: Want
    fingerprint: str
    sha256: str
    bytes: int
    seconds: float
    """That compiling took."""
    gain: float
    difference: float
    graphs: float = 0.0
    """The gain with CUDA graphs, 0 where they did not work or were not tried."""
    format: int = FORMAT
    folder: Path = field(default=Path(), compare=False)

    @property
    def package(self) -> Path:
        return self.folder / PACKAGE

    def encode(self) -> str:
        """The manifest's text."""
        rows = asdict(self)
        del rows["folder"]
        return json.dumps(rows, indent=1) + "\n"


class Store:
    """The folders where compiled code may lie.

    Args:
        roots: the first is written to; the others, such as what came with the image, are only read.
        fingerprint: of the device, `DeviceFacts.fingerprint`.
    """

    def __init__(self, roots: Sequence[Path], fingerprint: str) -> None:
        self.roots, self.fingerprint = tuple(roots), fingerprint
        self._bad: dict[Path, int] = {}
        self.told: list[str] = []
        """What was passed over and why, each once."""

    @property
    def folder(self) -> Path:
        """Where this device's are written."""
        return self.roots[0] / self.fingerprint

    def wants(self, architecture: str) -> list[Want]:
        """What there is for an architecture, by the folders' names alone; plain before full, in the order of names."""
        found: set[Want] = set()
        for root in self.roots:
            for folder in (root / self.fingerprint).glob(f"{architecture}-*"):
                with contextlib.suppress(ValueError):
                    _, variant, size = folder.name.split("-")
                    height, width = size.split("x")
                    found.add(Want(architecture, variant, int(height), int(width)))
        return sorted(found, key=lambda want: (want.variant != "plain", want.name))

    def find(self, want: Want) -> Artefact | None:
        """The artefact of this name, not yet checked; what was found bad is not found again until it is replaced."""
        for root in self.roots:
            folder = root / self.fingerprint / want.name
            path = folder / MANIFEST
            try:
                stamp = path.stat().st_mtime_ns
            except OSError:
                continue
            if self._bad.get(folder) == stamp:
                continue
            try:
                found = _decoded(path)
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._pass_over(folder, stamp, f"its manifest cannot be read ({type(error).__name__})")
                continue
            if (found.want, found.fingerprint, found.format) != (want, self.fingerprint, FORMAT):
                self._pass_over(folder, stamp, "it was made for something else")
                continue
            return found
        return None

    def checked(self, want: Want) -> Artefact | None:
        """The artefact whose bytes are those that its manifest says. Reads the whole file."""
        while (found := self.find(want)) is not None:
            reason = self._fault(found)
            if not reason:
                return found
            self.refuse(found, reason)
        return None

    def refuse(self, artefact: Artefact, reason: str) -> None:
        """Do not find this one again."""
        with contextlib.suppress(OSError):
            stamp = (artefact.folder / MANIFEST).stat().st_mtime_ns
            self._pass_over(artefact.folder, stamp, reason)

    def _fault(self, artefact: Artefact) -> str:
        try:
            if artefact.package.stat().st_size != artefact.bytes:
                return "its file is cut off"
            with artefact.package.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return f"its file cannot be read ({error.strerror})"
        return "" if digest == artefact.sha256 else "its file is damaged"

    def _pass_over(self, folder: Path, stamp: int, reason: str) -> None:
        if self._bad.get(folder) != stamp:
            self._bad[folder] = stamp
            self.told.append(f"{folder.name}: {reason}")

    @contextlib.contextmanager
    def making(self, want: Want) -> Iterator[Path]:
        """A folder to make an artefact in, for `publish`; gone afterwards, whatever happens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        half = self.folder / f".{want.name}.{os.getpid()}"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir()
        try:
            yield half
        finally:
            shutil.rmtree(half, ignore_errors=True)

    def publish(
        self, half: Path, want: Want, *, seconds: float, gain: float, difference: float, graphs: float = 0.0
    ) -> Artefact:
        """Give what was made in `half` its name. It takes the place of what was there.

        Raises:
            OSError: the disk is full, or the file is not there.
        """
        package = half / PACKAGE
        with package.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        made = Artefact(want, self.fingerprint, digest, package.stat().st_size, seconds, gain, difference, graphs)
        ready = self.folder / f".{want.name}.{os.getpid()}.ready"
        shutil.rmtree(ready, ignore_errors=True)
        ready.mkdir()
        try:
            package.replace(ready / PACKAGE)
            with (ready / MANIFEST).open("w", encoding="utf-8") as file:
                file.write(made.encode())
                file.flush()
                os.fsync(file.fileno())
            final, old = self.folder / want.name, self.folder / f".{want.name}.{os.getpid()}.old"
            with contextlib.suppress(FileNotFoundError):
                final.rename(old)
            ready.rename(final)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(ready, ignore_errors=True)
        _sync(self.folder)
        return made

    def clean(self) -> None:
        """Throw away what killed compilations have left. For whoever holds the lock."""
        with contextlib.suppress(OSError):
            for path in self.folder.glob(".*"):
                shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Whether this process may compile now: one at a time. The lock dies with its holder, however that ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open("a") as file:
            yield _locked(file)

    def tell(self, state: str, reason: str = "", **more: Any) -> None:
        """Write how the compiling goes; a full disk does not stop it."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            half = self.folder / f"{STATE}.{os.getpid()}"
            half.write_text(json.dumps({"state": state, "reason": reason, "time": round(time.time(), 1), **more}))
            half.replace(self.folder / STATE)

    def state(self) -> dict[str, Any]:
        """What `tell` wrote last: `state` "compiling", "done", "failed" or "" with a `reason`. A compiler that says that it works
        and holds no lock has been killed."""
        try:
            found = json.loads((self.folder / STATE).read_text("utf-8"))
        except (OSError, ValueError):
            return {"state": "", "reason": ""}
        if not isinstance(found, dict) or not isinstance(found.get("state"), str):
            return {"state": "", "reason": ""}
        if found["state"] == "compiling" and not self._is_held():
            return found | {"state": "failed", "reason": "killed"}
        return found

    def _is_held(self) -> bool:
        try:
            with (self.folder / LOCK).open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False


def _locked(file: IO[str]) -> bool:
    """Tries for a moment: whoever asks whether the lock is held holds it for as long as asking takes."""
    for _ in range(LOCK_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.05)
    return False


def _decoded(path: Path) -> Artefact:
    rows = json.loads(path.read_text("utf-8"))
    rows["want"] = Want(**rows["want"])
    found = Artefact(**rows, folder=path.parent)
    numbers = (found.bytes, found.seconds, found.gain, found.difference, found.graphs)
    if not all(isinstance(number, int | float) for number in numbers) or not isinstance(found.sha256, str):
        raise TypeError("fields of other types")
    return found


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
