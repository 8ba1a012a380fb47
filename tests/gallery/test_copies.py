"""Copies in a bucket: an S3 in this process (moto), throttled, absent, and back again; the picture on the disk stays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from moto import mock_aws

from danqing.app import load_settings
from danqing.database import Database
from danqing.errors import DanqingError
from danqing.gallery import upkeep
from danqing.gallery.copies import SETTLED, Copies, bucket_of
from danqing.gallery.store import Gallery
from danqing.jobs.store import MIGRATIONS

from .support import new_picture

NAME = "pictures-of-danqing"


class Clock:
    """Of the copies; pictures have the real time."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Place:
    """A data folder with its gallery and its copies."""

    def __init__(self, data: Path) -> None:
        self.data, self.clock = data, Clock()
        self.database = Database.open(data / "danqing.db", MIGRATIONS)
        self.gallery = Gallery(data, self.database)
        self.settings = load_settings(data, {"s3_bucket": NAME, "s3_region": "eu-central-1", "s3_prefix": "box/"})
        self.bucket = bucket_of(self.settings)
        self.copies = self.fresh()

    def fresh(self) -> Copies:
        """As after a restart."""
        return Copies(self.data, self.database, self.bucket, "box/", self.clock)

    def draw(self, job: str, **more: Any) -> str:
        return self.gallery.add(new_picture(job=job, **more)).id

    def keys(self) -> list[str]:
        assert self.bucket
        listed = self.bucket.client.list_objects_v2(Bucket=NAME).get("Contents", [])
        return [one["Key"] for one in listed]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name, value in (("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "x"), ("AWS_MAX_ATTEMPTS", "3")):
        monkeypatch.setenv(name, value)
    with mock_aws():
        made = Place(tmp_path)
        yield made
        made.database.close()


def make_bucket() -> None:
    where = {"LocationConstraint": "eu-central-1"}
    boto3.client("s3", region_name="eu-central-1").create_bucket(Bucket=NAME, CreateBucketConfiguration=where)  # type: ignore[arg-type]


def test_saved_pictures_are_copied_once_and_temporary_ones_never(place: Place) -> None:
    make_bucket()
    picture = place.draw("a", owner="li/../x")
    place.draw("b", temporary=True)
    place.copies.round()
    (key,) = place.keys()
    assert key.startswith("box/li%2F..%2Fx/txt2img-images/")
    assert place.bucket
    body = place.bucket.client.get_object(Bucket=NAME, Key=key)
    assert body["Body"].read() == place.gallery.get(picture).path.read_bytes()
    assert body["ContentType"] == "image/png"
    place.copies.round()
    assert place.copies.stats() == {"copies": 1, "copies_failed": 0, "copies_waiting": 0}


def test_a_throttled_bucket_is_asked_again(place: Place) -> None:
    make_bucket()
    assert place.bucket
    refused: list[str] = []

    def throttle(request: Any, **_: Any) -> AWSResponse | None:
        if len(refused) >= 2:
            return None
        refused.append(request.url)
        body = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"

        class Raw:
            def stream(self, **_: Any) -> Iterator[bytes]:
                yield body

        return AWSResponse(request.url, 503, {"Content-Type": "application/xml"}, Raw())  # type: ignore[arg-type]

    place.bucket.client.meta.events.register_first("before-send.s3.PutObject", throttle)
    place.draw("a")
    place.copies.round()
    assert len(refused) == 2
    assert len(place.keys()) == 1
    assert place.copies.trouble is None


def test_a_wrong_bucket_costs_no_picture_and_all_are_sent_when_it_is_there(place: Place) -> None:
    pictures = [place.draw(job) for job in "abc"]
    place.copies.round()
    assert place.copies.trouble
    assert place.copies.trouble.code == "copy_failed"
    assert "NoSuchBucket" in place.copies.trouble.text("en")
    assert place.copies.stats()["copies_waiting"] == 3
    assert all(place.gallery.get(picture).path.is_file() for picture in pictures)
    make_bucket()
    place.copies.round()
    assert place.copies.trouble is None
    assert len(place.keys()) == 3


def test_a_restart_goes_on_where_it_was(place: Place) -> None:
    make_bucket()
    first = place.draw("a")
    place.copies.round()
    place.clock.now += 2 * SETTLED
    place.copies.round()
    again = place.fresh()
    assert again.until
    assert again.until > place.gallery.get(first).created
    assert again.waiting() == 0
    again.round()
    assert again.copied == 0


def test_many_pictures_are_not_begun_anew_when_the_process_dies(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    make_bucket()
    monkeypatch.setattr("danqing.gallery.copies.PAGE", 2)
    for job in "abcdefg":
        place.draw(job)
    place.clock.now += 2 * SETTLED
    put, sent = place.copies._bucket.put, []  # type: ignore[union-attr]

    class Dying:
        def put(self, path: Path, key: str) -> None:
            if len(sent) == 5:
                raise KeyboardInterrupt
            sent.append(key)
            put(path, key)

    place.copies._bucket = Dying()
    with pytest.raises(KeyboardInterrupt):
        place.copies.round()
    again = place.fresh()
    again.round()
    assert len(place.keys()) == 7
    assert again.copied < 5
    assert again.waiting() == 0


def test_what_is_not_copied_is_not_retired(place: Place) -> None:
    picture = place.draw("a")
    place.copies.round()
    later = place.clock.now + 10 * 86400
    assert upkeep.retire(place.data, place.database, 1.0, later, place.copies.until) == 0
    make_bucket()
    place.clock.now = later
    place.copies.round()
    assert upkeep.retire(place.data, place.database, 1.0, later + 1, place.copies.until) == 1
    with pytest.raises(DanqingError):
        place.gallery.get(picture)
    assert len(place.keys()) == 1


def test_a_machine_without_boto3_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danqing.gallery.copies.find_spec", lambda name: None)
    with pytest.raises(DanqingError, match="boto3 is not installed"):
        bucket_of(place.settings)
    assert bucket_of(load_settings(place.data)) is None
