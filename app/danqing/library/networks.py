"""What networks are on disk: LoRA and LyCORIS files, and hypernetworks. No torch: the web process reads this too.

Folders are the WebUI's: `DATA/models/Lora`, `DATA/models/LyCORIS` and `DATA/models/hypernetworks`, sub-folders included. Each
call looks again, so that a file dropped there is found without a restart.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import Any

from danqing.errors import DanqingError
from danqing.library.hashes import HashCache, Stamp
from danqing.library.header import read_header
from danqing.library.walking import walk

FOLDERS = {"lora": ("Lora", "LyCORIS"), "hypernet": ("hypernetworks",)}
EXTENSIONS = {"lora": (".safetensors", ".pt", ".ckpt"), "hypernet": (".pt",)}
HASH_DIGITS = {"lora": 12, "hypernet": 10}

NO_ALIAS = frozenset({"none", "addams"})
"""Aliases that say nothing, in lower case."""

PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Network:
    """A network file.

    kind: "lora" or "hypernet". name: the file's name without folders and ending. alias: the name its trainer gave it.
    metadata: what the file says of itself; values that are JSON are parsed.
    """

    kind: str
    name: str
    alias: str
    path: Path
    stamp: Stamp
    metadata: dict[str, Any] = field(hash=False, compare=False)

    @property
    def mtime_ns(self) -> int:
        return self.stamp[2]

    def user_metadata(self) -> dict[str, Any]:
        """The JSON beside the file: description, sd version, activation text, preferred weight, negative text, notes."""
        try:
            found = json.loads(self.path.with_suffix(".json").read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


class Networks:
    """The networks under one data root. Safe to call from several threads."""

    def __init__(self, data: Path) -> None:
        self._models = data / "models"
        self._hashes = HashCache(data / "cache" / "hashes")
        self._lock = threading.Lock()
        self._known: dict[Stamp, Network] = {}

    def folders(self) -> list[Path]:
        """Where networks of every kind lie; a folder need not be there."""
        return [self._models / folder for kind in FOLDERS.values() for folder in kind]

    def loras(self) -> list[Network]:
        """All LoRA and LyCORIS files, folder by folder in natural order."""
        return self._all("lora")

    def hypernetworks(self) -> list[Network]:
        """All hypernetworks."""
        return self._all("hypernet")

    def find(self, kind: str, name: str) -> Network | None:
        """The file that `name` means: its own name, or a LoRA's alias that no other has; None where there is none.

        Of files of one name in several folders the last counts.
        """
        paths = [path for path in self._paths(kind) if path.stem == name]
        if paths:
            return self._describe(kind, paths[-1])
        if kind != "lora" or name.lower() in NO_ALIAS:
            return None
        networks = self.loras()
        count = Counter(network.alias.lower() for network in networks)
        found = [network for network in networks if network.alias == name]
        return found[-1] if found and count[name.lower()] == 1 else None

    def by_hash(self, digits: str) -> Network | None:
        """The LoRA whose short hash this is, among those whose hash is known already."""
        return next((network for network in self.loras() if digits and self.known_hash(network) == digits), None)

    def known_hash(self, network: Network) -> str | None:
        """The short hash if it need not be computed."""
        given = network.metadata.get("sshs_model_hash") if network.kind == "lora" else None
        full = given if isinstance(given, str) and given else self._hashes.get(network.stamp, _hash_kind(network))
        return full[: HASH_DIGITS[network.kind]] if full else None

    def short_hash(self, network: Network) -> str:
        """The hash that an infotext shows: 12 digits of a LoRA's, 10 of a hypernetwork's. Reads the whole file once.

        Raises:
            DanqingError: `model_broken`, when the file cannot be read.
        """
        known = self.known_hash(network)
        if known:
            return known
        try:
            full = _digest(network)
        except OSError as error:
            raise DanqingError("model_broken", name=network.path.name, reason=error.strerror or str(error)) from None
        self._hashes.put(network.stamp, full, _hash_kind(network))
        return full[: HASH_DIGITS[network.kind]]

    def _all(self, kind: str) -> list[Network]:
        return [network for path in self._paths(kind) if (network := self._describe(kind, path)) is not None]

    def _paths(self, kind: str) -> Iterator[Path]:
        for folder in FOLDERS[kind]:
            root = self._models / folder
            found = [
                directory / name
                for directory, _, names in walk(root)
                for name in names
                if name.lower().endswith(EXTENSIONS[kind])
            ]
            yield from sorted(found, key=lambda path: _natural(path.relative_to(root).as_posix()))

    def _describe(self, kind: str, path: Path) -> Network | None:
        try:
            stat = path.stat()
        except OSError:
            return None
        if not S_ISREG(stat.st_mode):
            return None
        stamp = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
        with self._lock:
            known = self._known.get(stamp)
        if known is None or known.path != path:
            metadata = _metadata(path)
            alias = metadata.get("ss_output_name") if kind == "lora" else None
            known = Network(
                kind, path.stem, alias if isinstance(alias, str) and alias else path.stem, path, stamp, metadata
            )
            with self._lock:
                self._known[stamp] = known
        return known


def _natural(name: str) -> list[tuple[int, str, int]]:
    """Sort key: lower case, digit runs compared as numbers."""
    return [(1, "", int(p)) if p.isdigit() else (0, p, 0) for p in re.split(r"(\d+)", name.lower()) if p]


def _hash_kind(network: Network) -> str:
    return "kohya:" if _is_safetensors(network) else ""


def _is_safetensors(network: Network) -> bool:
    return network.kind == "lora" and network.path.suffix.lower() == ".safetensors"


def _digest(network: Network) -> str:
    """sha256 of the file; of a `.safetensors` LoRA without its header, as kohya's trainer counts it."""
    digest = hashlib.sha256()
    with network.path.open("rb") as file:
        if _is_safetensors(network):
            length = int.from_bytes(file.read(8), "little")
            if length > network.stamp[1]:
                raise OSError(f"the header claims {length} bytes")
            file.seek(8 + length)
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _metadata(path: Path) -> dict[str, Any]:
    if path.suffix.lower() != ".safetensors":
        return {}
    try:
        rows = read_header(path).metadata
    except DanqingError:
        return {}
    # Cover pictures are megabytes of base64 that nobody reads here.
    return {key: _parsed(value) for key, value in rows.items() if key != "ssmd_cover_images"}


def _parsed(value: str) -> Any:
    if not value.startswith("{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
