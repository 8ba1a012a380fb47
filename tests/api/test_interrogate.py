"""POST interrogate with the real engine and a tagger of random weights."""

from __future__ import annotations

import json
import shutil

from PIL import Image

from tests.api.support import SMALL, base64_of
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


def test_loopback_appends_what_is_seen_in_each_input(server: Server) -> None:
    folder = server.data / "models" / "interrogate" / "deepdanbooru"
    picture = base64_of(Image.new("RGB", (64, 64), "red"))
    script = {"script_name": "loopback", "script_args": [2, 0.5, "Linear", "DeepBooru"]}
    body = {**SMALL, "init_images": [picture], "denoising_strength": 0.5, **script}
    with server.client() as client:
        absent = client.post("/sdapi/v1/img2img", json=body)
        write_tagger(folder, ["1girl", "long_hair", "hat_(red)", "rating:safe", "tree"], sure=True)
        try:
            drawn = client.post("/sdapi/v1/img2img", json=body)
        finally:
            shutil.rmtree(folder)
    assert (absent.status_code, absent.json()["error"]) == (422, "InterrogatorMissing")
    assert drawn.status_code == 200, drawn.text
    texts = json.loads(drawn.json()["info"])["infotexts"]
    assert texts[-1].startswith(r"a red circle, 1girl, hat \(red\), long hair, tree")
