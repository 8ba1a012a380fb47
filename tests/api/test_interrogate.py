"""POST interrogate with the real engine and a tagger of random weights."""

from __future__ import annotations

import shutil

from PIL import Image

from tests.api.support import base64_of
from tests.conftest import Server
from tests.engine.tagger import write_tagger


def test_tags_by_the_engine_as_the_options_say(server: Server) -> None:
    folder = server.data / "models" / "interrogate" / "deepdanbooru"
    write_tagger(folder, ["1girl", "long_hair", "hat_(red)", "rating:safe", "tree"])
    body = {"image": base64_of(Image.new("RGB", (48, 32), "red")), "model": "deepdanbooru"}
    try:
        with server.client() as client:
            client.post("/sdapi/v1/options", json={"interrogate_deepbooru_score_threshold": 0})
            caption = client.post("/sdapi/v1/interrogate", json=body)
            client.post("/sdapi/v1/options", json={"deepbooru_use_spaces": False, "deepbooru_filter_tags": "tree"})
            other = client.post("/sdapi/v1/interrogate", json=body)
    finally:
        shutil.rmtree(folder)
    assert (caption.status_code, caption.json()) == (200, {"caption": r"1girl, hat \(red\), long hair, tree"})
    assert other.json() == {"caption": r"1girl, hat_\(red\), long_hair"}
