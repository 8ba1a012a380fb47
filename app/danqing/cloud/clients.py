"""boto3 clients for one region, with errors in our words.

With an endpoint that is not Amazon's (an emulator), made-up credentials do.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from danqing.cloud.errors import CloudError, explained
from danqing.cloud.facts import Partition, partition_of
from danqing.errors import ParamValue

DEFAULT_REGION = "us-east-1"
REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")


@dataclass
class Cloud:
    """One account in one region. `endpoint`: of an emulator, "" for AWS."""

    region: str
    endpoint: str = ""
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict, repr=False)

    @classmethod
    def at(cls, region: str = "", endpoint: str = "") -> Cloud:
        """With the region of the environment or the profile where none is named.

        Raises:
            CloudError: `unknown_region`, `no_profile`.
        """
        found = region or next((os.environ[name] for name in REGION_VARIABLES if os.environ.get(name)), "")
        cloud = cls(found or _profile_region() or DEFAULT_REGION, endpoint or os.environ.get("AWS_ENDPOINT_URL", ""))
        partition_of(cloud.region)
        return cloud

    @property
    def partition(self) -> Partition:
        return partition_of(self.region)

    @property
    def emulated(self) -> bool:
        """Whether this is not Amazon."""
        host = urlsplit(self.endpoint).hostname or ""
        return bool(self.endpoint) and not host.endswith((".amazonaws.com", ".amazonaws.com.cn"))

    def client(self, service: str, region: str = "") -> Any:
        """A boto3 client, made once.

        Raises:
            CloudError: `no_credentials`, `no_profile`.
        """
        key = (service, region or self.region)
        if key not in self._clients:
            self._clients[key] = self._make(*key)
        return self._clients[key]

    @property
    def ec2(self) -> Any:
        return self.client("ec2")

    def _make(self, service: str, region: str) -> Any:
        import boto3
        import botocore.session
        from botocore.config import Config

        # Quick to give up on an emulator, patient with Amazon.
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 1 if self.emulated else 5}, connect_timeout=10
        )
        with self.told():
            inner = botocore.session.get_session()
            inner.register_component("data_loader", _descriptions())
            session = boto3.session.Session(region_name=region, botocore_session=inner)
            keys: dict[str, str] = {}
            if self.emulated and session.get_credentials() is None:
                keys = {"aws_access_key_id": "emulated", "aws_secret_access_key": "emulated"}
            return session.client(service, endpoint_url=self.endpoint or None, config=config, **keys)

    @contextlib.contextmanager
    def told(self, **known: ParamValue) -> Iterator[None]:
        """What boto3 raises inside becomes a `CloudError` where there is one."""
        try:
            yield
        except CloudError:
            raise
        except Exception as error:
            better = explained(error, **{"region": self.region, **known})
            if better is error:
                raise
            raise better from error

    def pages(self, service: str, operation: str, key: str, **arguments: Any) -> list[dict[str, Any]]:
        """All rows `key` of a paginated operation."""
        with self.told():
            found: list[dict[str, Any]] = []
            for page in self.client(service).get_paginator(operation).paginate(**arguments):
                found += page[key]
            return found


@functools.cache
def _descriptions() -> Any:
    """The descriptions of AWS's services, read once for all clients: EC2's alone is megabytes."""
    from botocore.loaders import create_loader

    return create_loader()


def _profile_region() -> str:
    import botocore.session
    from botocore.exceptions import ProfileNotFound

    try:
        return botocore.session.Session().get_config_variable("region") or ""
    except ProfileNotFound as error:
        raise explained(error) from None


def tags_of(row: dict[str, Any]) -> dict[str, str]:
    """Tags of anything EC2 describes."""
    return {tag["Key"]: tag["Value"] for tag in row.get("Tags") or ()}


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    """Tags as EC2 takes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def filters(**wanted: str | list[str]) -> list[dict[str, Any]]:
    """EC2 filters; `tag__X` is tag:X, other underscores are hyphens."""
    return [
        {
            "Name": f"tag:{name.removeprefix('tag__')}" if name.startswith("tag__") else name.replace("_", "-"),
            "Values": [values] if isinstance(values, str) else values,
        }
        for name, values in wanted.items()
    ]
