"""Weights are fetched whole and right or not at all, over servers that cut, lie and forget."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from danqing.errors import DanqingError
from danqing.library import fetch
from danqing.library.manifest import HubSource, Kind, UrlSource, Weights, read_manifest

CONTENT = bytes(range(256)) * 4000
GOOD = hashlib.sha256(CONTENT).hexdigest()


class Hub(http.server.ThreadingHTTPServer):
    """Serves CONTENT, in pieces of `cut` bytes; paths with `lie` or `gone` in them do what they say."""

    cut = len(CONTENT)
    ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Range", "")))
        if "gone" in self.path:
            self.send_error(404)
            return
        content = CONTENT[::-1] if "lie" in self.path else CONTENT
        begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if not self.server.ranges:
            begin = 0
        if begin >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        self.wfile.write(content[begin : begin + self.server.cut])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def weights(*paths: str, sha256: str = GOOD) -> Weights:
    sources = tuple(HubSource(type="hub", repo="owner/name", path=path) for path in paths)
    return Weights(
        name="w",
        kind=Kind.VAE,
        file="models/VAE/w.pt",
        bytes=len(CONTENT),
        sha256=sha256,
        license="MIT",
        sources=sources,
    )


def place(tmp_path: Path, hub: Hub) -> fetch.Place:
    return fetch.Place(tmp_path, hub.address, wait=0.001)


def quiet(_: str) -> None:
    pass


def test_a_file_is_fetched_once(tmp_path: Path, hub: Hub) -> None:
    for _ in range(2):
        fetch.fetch([weights("a")], place(tmp_path, hub), quiet)
    assert (tmp_path / "models/VAE/w.pt").read_bytes() == CONTENT
    assert [path for path, _ in hub.asked] == ["/owner/name/resolve/main/a"]
    assert json.loads((tmp_path / fetch.RECORD).read_text())["w"]["sha256"] == GOOD


def test_what_was_cut_goes_on(tmp_path: Path, hub: Hub) -> None:
    hub.cut = len(CONTENT) // 2 + 1
    fetch.fetch([weights("a")], place(tmp_path, hub), quiet)
    assert (tmp_path / "models/VAE/w.pt").read_bytes() == CONTENT
    assert [wanted for _, wanted in hub.asked] == ["", f"bytes={hub.cut}-"]


def test_a_server_that_knows_no_ranges_begins_again(tmp_path: Path, hub: Hub) -> None:
    part = tmp_path / "models/VAE/.w.pt.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:1000])
    hub.ranges = False
    fetch.fetch([weights("a")], place(tmp_path, hub), quiet)
    assert (tmp_path / "models/VAE/w.pt").read_bytes() == CONTENT


def test_the_next_source_is_asked(tmp_path: Path, hub: Hub) -> None:
    fetch.fetch([weights("gone", "lie", "a")], place(tmp_path, hub), quiet)
    assert (tmp_path / "models/VAE/w.pt").read_bytes() == CONTENT
    assert [path.rpartition("/")[2] for path, _ in hub.asked] == ["gone", "lie", "a"]


def test_what_is_wrong_is_not_kept(tmp_path: Path, hub: Hub) -> None:
    with pytest.raises(DanqingError) as caught:
        fetch.fetch([weights("lie")], place(tmp_path, hub), quiet)
    assert caught.value.code == "weights_missing"
    assert not list((tmp_path / "models/VAE").iterdir())


def test_without_a_checksum_the_first_is_written_down(tmp_path: Path, hub: Hub) -> None:
    fetch.fetch([weights("a", sha256="")], place(tmp_path, hub), quiet)
    (tmp_path / "models/VAE/w.pt").unlink()
    with pytest.raises(DanqingError, match="sha256"):
        fetch.fetch([weights("lie", sha256="")], place(tmp_path, hub), quiet)


def test_the_room_is_looked_at_first(tmp_path: Path, hub: Hub) -> None:
    large = weights("a").model_copy(update={"bytes": 1 << 60})
    with pytest.raises(DanqingError) as caught:
        fetch.fetch([large], place(tmp_path, hub), quiet)
    assert caught.value.code == "weights_room"
    assert not hub.asked


def test_without_a_hub_its_sources_are_left_out(tmp_path: Path) -> None:
    row = weights("a").model_copy(
        update={"sources": (*weights("a").sources, UrlSource(type="https", url="https://x/y"))}
    )
    sources = list(fetch.Place(tmp_path, bucket="s3://b/prefix").sources(row))
    assert [source.type for source in sources] == ["https", "s3"]
    assert fetch._address(sources[1], fetch.Place(tmp_path)) == "s3://b/prefix/models/VAE/w.pt"
    with pytest.raises(DanqingError) as caught:
        fetch.fetch([weights("a")], fetch.Place(tmp_path), quiet)
    assert caught.value.code == "weights_missing"
    assert "--hub" in caught.value.text("en")
    assert "镜像" in caught.value.text("zh")


def test_groups() -> None:
    manifest = read_manifest()
    assert {row.kind for row in fetch.chosen(manifest, ["base"])} == {Kind.CHECKPOINT, Kind.VAE}
    assert fetch.chosen(manifest, ["mini"]) == []  # ships with the package
    with pytest.raises(DanqingError, match="controlnet-core"):
        fetch.chosen(manifest, ["nonsense"])


def test_the_listing_names_every_licence() -> None:
    rows = fetch.chosen(read_manifest(), ["base", "annotators-core"])
    text = "\n".join(fetch.listing(rows))
    assert all(licence in text for licence in fetch.licences(rows))
    assert "CreativeML-OpenRAIL-M" in fetch.licences(rows)


def test_without_a_group_the_listing_tells_all_of_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The refusal of licences that are not accepted names this very command."""
    monkeypatch.setattr("sys.argv", ["fetch", "--list"])
    fetch.main()
    told = capsys.readouterr().out
    assert all(name in told for name in ("sd-1.5", "(base)", "interrogate-tags", "translate"))
    monkeypatch.setattr("sys.argv", ["fetch"])
    with pytest.raises(SystemExit, match="2"):
        fetch.main()
