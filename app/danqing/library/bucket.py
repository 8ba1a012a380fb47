"""Objects in S3, read with the machine's own role."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO


@contextlib.contextmanager
def opened(bucket: str, key: str, begin: int) -> Iterator[tuple[IO[bytes], bool, int]]:
    """The object's body from byte `begin` on, whether it begins there, and its length.

    Raises:
        OSError: it cannot be read; the message says why.
    """
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise OSError("boto3 is not installed: pip install 'danqing[cloud]'") from None
    try:
        extra = {"Range": f"bytes={begin}-"} if begin else {}
        answer = boto3.client("s3").get_object(Bucket=bucket, Key=key, **extra)
        yield answer["Body"], bool(begin), int(answer["ContentLength"])
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "InvalidRange":
            raise OSError("the part that is there is longer than the object") from None
        raise OSError(str(error)) from None
    except BotoCoreError as error:
        raise OSError(str(error)) from None
