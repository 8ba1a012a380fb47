"""Fetches weights of the manifest: `python -m danqing.library.fetch --data DIR --hub URL GROUP...`.

Sources are tried in order, then the bucket; what was cut is resumed; nothing is moved into place before its checksum is right.
What an entry without a checksum turned out to be is written down in `models/fetched.json` and asked for from then on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from danqing.errors import DanqingError, environment_language
from danqing.library.manifest import HubSource, Manifest, S3Source, Source, UrlSource, Weights, read_manifest
from danqing.library.whole import sha256_of

CHUNK = 1 << 22
TRIES = 4
WAIT_SECONDS = 2.0
"""Before the second try of a source; doubles."""
SILENT_SECONDS = 60.0
RESERVE = 500 << 20
"""Bytes that stay free on the disk."""
RECORD = "models/fetched.json"
NO_HUB = "no model hub is set; add --hub https://huggingface.co, or the address of a mirror"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where weights come from and go to.

    Args:
        data: the data folder.
        hub: address of the model hub; "" leaves its sources out.
        bucket: `s3://bucket/prefix`, asked after all others; "" for none.
    """

    data: Path
    hub: str = ""
    bucket: str = ""
    wait: float = field(default=WAIT_SECONDS, kw_only=True)

    def target(self, weights: Weights) -> Path:
        return self.data / weights.file

    def sources(self, weights: Weights) -> Iterator[Source]:
        """In the order in which they are tried."""
        for source in weights.sources:
            if self.hub or not isinstance(source, HubSource):
                yield source
        if self.bucket:
            name, _, prefix = self.bucket.removeprefix("s3://").partition("/")
            yield S3Source(type="s3", bucket=name, key=f"{prefix.rstrip('/')}/{weights.file}".lstrip("/"))


def chosen(manifest: Manifest, groups: list[str]) -> list[Weights]:
    """The weights of the groups, each once, that have to be fetched.

    Raises:
        DanqingError: `invalid_field` for a group that does not exist.
    """
    names = {group for row in manifest.weights for group in row.groups}
    for group in groups:
        if group not in names:
            raise DanqingError("invalid_field", field=group, reason=f"one of {', '.join(sorted(names))}")
    return [row for row in manifest.weights if row.sources and set(groups) & set(row.groups)]


def fetch(rows: list[Weights], place: Place, say: Say) -> None:
    """Bring all of them into place; those that are there are left alone.

    Raises:
        DanqingError: `weights_room` before anything is fetched, `weights_missing`, `weights_wrong`.
    """
    record = _record(place)
    missing = [row for row in rows if not _is_there(row, place, record)]
    _check_room(missing, place)
    for row in missing:
        digest, source = _fetch_one(row, place, str(record.get(row.name, {}).get("sha256", "")), say)
        size = place.target(row).stat().st_size
        record[row.name] = {"file": row.file, "bytes": size, "sha256": digest, "source": source}
        _write_record(place, record)
        say(f"{row.name}: {size >> 20} MB, sha256 {digest}")


def _record(place: Place) -> dict[str, Any]:
    try:
        found = json.loads((place.data / RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_record(place: Place, record: dict[str, Any]) -> None:
    path = place.data / RECORD
    half = path.with_suffix(".part")
    half.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", "utf-8")
    half.replace(path)


def _is_there(row: Weights, place: Place, record: dict[str, Any]) -> bool:
    """Fetched before, by its record, or put there by somebody, by its checksum."""
    target = place.target(row)
    if not target.is_file():
        return False
    known = record.get(row.name, {})
    if known.get("bytes") == target.stat().st_size and (not row.sha256 or known.get("sha256") == row.sha256):
        return True
    return bool(row.sha256) and sha256_of(target) == row.sha256


def part_of(row: Weights, place: Place) -> Path:
    """The file that grows while it is fetched."""
    target = place.target(row)
    return target.with_name(f".{target.name}.part")


def _check_room(rows: list[Weights], place: Place) -> None:
    def got(row: Weights) -> int:
        part = part_of(row, place)
        return part.stat().st_size if part.is_file() else 0

    needed = sum(max(0, row.bytes - got(row)) for row in rows)
    place.data.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place.data).free
    if rows and needed + RESERVE > free:
        raise DanqingError("weights_room", needed_mb=needed >> 20, free_mb=free >> 20, path=str(place.data))


def _fetch_one(row: Weights, place: Place, pinned: str, say: Say) -> tuple[str, str]:
    """Digest and source of the file that is now in place."""
    wanted, reasons = row.sha256 or pinned, []
    part = part_of(row, place)
    part.parent.mkdir(parents=True, exist_ok=True)
    for source in place.sources(row):
        name = _address(source, place)
        say(f"{row.name} ← {name}")
        try:
            _download(source, place, part, say)
        except (OSError, DanqingError) as error:
            reasons.append(f"{name}: {error}")
            continue
        digest = sha256_of(part)
        if wanted and digest != wanted:
            part.unlink()
            reasons.append(f"{name}: sha256 {digest}")
            say(DanqingError("weights_wrong", source=name, name=row.name, reason=f"sha256 {digest}").text("en"))
            continue
        _settle(part, place.target(row))
        return digest, name
    raise DanqingError("weights_missing", name=row.name, reason="; ".join(reasons) or NO_HUB)


def _settle(part: Path, target: Path) -> None:
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.chmod(0o644)
    part.replace(target)


def _address(source: Source, place: Place) -> str:
    """As a URL, without anything secret."""
    if isinstance(source, HubSource):
        return f"{place.hub.rstrip('/')}/{source.repo}/resolve/{quote(source.revision)}/{quote(source.path)}"
    return source.url if isinstance(source, UrlSource) else f"s3://{source.bucket}/{source.key}"


def _download(source: Source, place: Place, part: Path, say: Say) -> None:
    """All of the source into `part`, going on where it ends."""
    wait = place.wait
    for number in range(TRIES):
        try:
            _once(source, place, part)
            return
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the part is whole already, or of something else: the checksum tells
                return
            if error.code < 500 and error.code != 429:
                raise
            reason: Exception = error
        except OSError as error:
            reason = error
        if number == TRIES - 1:
            raise reason
        say(f"  {reason}; again in {wait:g} s, from {part.stat().st_size if part.exists() else 0} bytes")
        time.sleep(wait)
        wait *= 2


def _once(source: Source, place: Place, part: Path) -> None:
    begin = part.stat().st_size if part.exists() else 0
    if isinstance(source, S3Source):
        from danqing.library.bucket import opened

        opening = opened(source.bucket, source.key, begin)
    else:
        opening = _opened(_address(source, place), begin)
    with opening as (body, resumed, length), part.open("ab" if resumed else "wb") as file:
        while chunk := body.read(CHUNK):
            file.write(chunk)
            length -= len(chunk)
    if length > 0:
        raise ConnectionError("the connection ended early")


@contextlib.contextmanager
def _opened(address: str, begin: int) -> Iterator[tuple[IO[bytes], bool, int]]:
    """The body from byte `begin` on, whether the server began there (else at 0), and the body's length, 0 when unknown."""
    request = urllib.request.Request(address, headers={"User-Agent": "danqing"})
    if begin:
        request.add_header("Range", f"bytes={begin}-")
    with urllib.request.urlopen(request, timeout=SILENT_SECONDS) as answer:
        yield answer, answer.status == 206, int(answer.headers.get("Content-Length") or 0)


def listing(rows: list[Weights]) -> Iterator[str]:
    """What would be fetched, with sizes and licences."""
    for row in rows:
        pinned = row.sha256[:10] if row.sha256 else "written down at first"
        groups = ", ".join(row.groups)
        yield f"{row.name:<28} {row.bytes >> 20:>6} MB  sha256 {pinned:<22} {row.license}  ({groups})"
    yield f"{'all':<28} {sum(row.bytes for row in rows) >> 20:>6} MB"


def licences(rows: list[Weights]) -> list[str]:
    """What has to be accepted, each once."""
    return sorted({row.license for row in rows})


def main() -> None:
    parser = argparse.ArgumentParser(prog="danqing.library.fetch", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("groups", nargs="*", help="groups of the manifest; without any, --list tells of all")
    parser.add_argument("--data", type=Path, default=Path("data"), help="data folder")
    parser.add_argument(
        "--hub", default=os.environ.get("HF_ENDPOINT", ""), help="address of the model hub, or a mirror"
    )
    parser.add_argument("--bucket", default="", help="s3://bucket/prefix, asked last")
    parser.add_argument("--list", action="store_true", help="only say what would be fetched, and under which licences")
    parser.add_argument("--accept-licences", action="store_true", help="the licences have been read and are accepted")
    asked = parser.parse_args()
    if not asked.groups and not asked.list:
        parser.error("name groups of the manifest; --list tells of them")
    try:
        manifest = read_manifest()
        rows = chosen(manifest, asked.groups or [group for row in manifest.weights for group in row.groups])
        if asked.list:
            print("\n".join(listing(rows)))
            return
        if not asked.accept_licences:
            raise DanqingError("weights_licence", licences="; ".join(licences(rows)))
        fetch(rows, Place(asked.data, asked.hub, asked.bucket), lambda line: print(line, file=sys.stderr, flush=True))
    except DanqingError as error:
        sys.exit(error.text(environment_language()))


if __name__ == "__main__":
    main()
