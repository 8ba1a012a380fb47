"""Chinese into English by Amazon Translate, with the machine's own role."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from danqing.errors import DanqingError

PIECE = 5000
"""Bytes of one text that are sent: the service's limit is 10,000."""


def translated(texts: Sequence[str], region: str = "", client: Any = None) -> list[str]:
    """Each text in English, in order. Blocks; prompts leave the machine.

    Args:
        region: "" for the environment's.
        client: a boto3 client of "translate"; None makes one.

    Raises:
        DanqingError: `translation_failed`.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        if client is None:
            limits = Config(connect_timeout=3, read_timeout=10, retries={"max_attempts": 3, "mode": "standard"})
            client = boto3.client("translate", region_name=region or None, config=limits)
        return [_one(client, text) for text in texts]
    except ClientError as error:
        reason = str(error.response.get("Error", {}).get("Code", error))
    except BotoCoreError as error:
        reason = str(error)
    raise DanqingError("translation_failed", reason=reason[:200])


def _one(client: Any, text: str) -> str:
    cut = text.encode()[:PIECE].decode("utf-8", "ignore")
    answer = client.translate_text(Text=cut, SourceLanguageCode="zh", TargetLanguageCode="en")
    return str(answer["TranslatedText"])
