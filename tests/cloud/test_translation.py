"""Amazon Translate behind botocore's stubber: what is sent, what comes back, what a refusal says."""

from __future__ import annotations

import boto3
import pytest
from botocore.stub import Stubber

from danqing.cloud.translation import translated
from danqing.errors import DanqingError


def client() -> object:
    return boto3.client("translate", "cn-north-1", aws_access_key_id="x", aws_secret_access_key="y")


def asked(text: str) -> dict[str, str]:
    return {"Text": text, "SourceLanguageCode": "zh", "TargetLanguageCode": "en"}


def test_texts_are_translated_in_order() -> None:
    found = client()
    with Stubber(found) as stub:
        for text, english in (("猫", "cat"), ("狗", "dog")):
            answer = {"TranslatedText": english, "SourceLanguageCode": "zh", "TargetLanguageCode": "en"}
            stub.add_response("translate_text", answer, asked(text))
        assert translated(["猫", "狗"], client=found) == ["cat", "dog"]
        stub.assert_no_pending_responses()


def test_a_refusal_is_named() -> None:
    found = client()
    with Stubber(found) as stub:
        stub.add_client_error("translate_text", "AccessDeniedException", http_status_code=403)
        with pytest.raises(DanqingError) as caught:
            translated(["猫"], client=found)
    assert caught.value.code == "translation_failed"
    assert "AccessDeniedException" in caught.value.text("zh")
