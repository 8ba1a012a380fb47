"""Programs of others against the real app behind nginx, with a login: what a client on another machine meets."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import sd_backend_client
import webuiapi
from PIL import Image
from requests.auth import HTTPBasicAuth

from tests.conftest import Server, start_server
from tests.nginx.conftest import NGINX, Door, installed

SMALL: dict[str, Any] = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 3, "seed": 7}
BOX = {"DANQING_PROXY_ADDRESSES": "127.0.0.1", "DANQING_ALLOWED_HOSTS": "*"}
"""As the box's danqing.env sets it."""


@pytest.fixture(scope="module")
def front(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    if NGINX is None:
        pytest.skip("nginx is missing (Debian and Ubuntu: apt-get install nginx)")
    door = installed(rendered, tmp_path_factory.mktemp("front"), {})
    door.start()
    yield door
    door.stop()


@pytest.fixture(scope="module")
def app(front: Door, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("app") / "data"
    running = start_server(data, "--users", "login", environment=BOX, port=front.upstream_port)
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def token(app: Server, front: Door) -> str:
    """A bearer token, made with the password through nginx."""
    ask = httpx.Client(base_url=f"http://127.0.0.1:{front.port}", auth=("admin", app.password), trust_env=False)
    answer = ask.post("/v1/tokens", json={"name": "a program", "scopes": ["draw"]})
    assert answer.status_code in (200, 201), answer.text
    return str(answer.json()["token"])


def test_webuiapi(app: Server, front: Door) -> None:
    api = webuiapi.WebUIApi(host="127.0.0.1", port=front.port, sampler="Euler a", steps=3)
    with pytest.raises(RuntimeError, match="401"):
        api.txt2img(**SMALL)
    api.set_auth("admin", app.password)
    result = api.txt2img(**SMALL)
    assert result.image.size == (64, 64)
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 32, 64))
    inpaint: dict[str, Any] = {"mask_image": mask, "mask_blur": 0, "inpainting_fill": 1, "denoising_strength": 0.6}
    painted = api.img2img(images=[result.image], **inpaint, **SMALL)
    assert painted.image.tobytes() != result.image.tobytes()
    assert painted.image.crop((40, 0, 64, 64)).tobytes() == result.image.crop((40, 0, 64, 64)).tobytes()
    larger = api.extra_single_image(result.image, upscaler_1=webuiapi.Upscaler.Lanczos, upscaling_resize=2)
    assert larger.image.size == (128, 128)
    assert api.get_progress()["progress"] == 0
    api.set_options({"CLIP_stop_at_last_layers": 2})
    assert api.get_options()["CLIP_stop_at_last_layers"] == 2
    assert "Clip skip: 2" in api.txt2img(**SMALL).info["infotexts"][0]
    matrix = [False, False, "positive", "comma", 0]
    drawn = api.txt2img(**{**SMALL, "prompt": "a|b"}, script_name="Prompt matrix", script_args=matrix)
    assert len(drawn.images) == 3


def test_sd_backend_client(app: Server, front: Door) -> None:
    url = f"http://127.0.0.1:{front.port}"
    with pytest.raises(sd_backend_client.AuthError):
        sd_backend_client.connect_to_backend(url)


def test_openai(front: Door, token: str) -> None:
    plain = httpx.Client(trust_env=False, timeout=60)
    base = f"http://127.0.0.1:{front.port}/v1"
    with openai.OpenAI(base_url=base, api_key=token, max_retries=0, http_client=plain) as client:
        answer = client.images.generate(prompt="a red circle", size="64x64", extra_body={"steps": 3, "seed": 7})
    (row,) = answer.data or []
    assert row.url
    # The address is one that the client can reach, and its token opens it.
    assert row.url.startswith(base)
    opened = httpx.get(row.url, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    assert Image.open(io.BytesIO(opened.content)).size == (64, 64)
    assert httpx.get(row.url, trust_env=False).status_code == 401


def test_events_come_as_they_happen(front: Door, token: str) -> None:
    head = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{front.port}", headers=head, trust_env=False, timeout=60) as client:
        job = client.post("/v1/jobs", json={"kind": "txt2img", **SMALL, "steps": 30, "n_iter": 2}).json()
        with client.stream("GET", f"/v1/jobs/{job['id']}/events") as stream:
            seen = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
    assert seen[-1]["state"] == "done"
    assert any(0 < one["progress"] < 1 for one in seen)


def test_a_wrong_password_is_told_so(app: Server, front: Door) -> None:
    api = webuiapi.WebUIApi(host="127.0.0.1", port=front.port)
    api.session.auth = HTTPBasicAuth("admin", "wrong")
    with pytest.raises(RuntimeError, match="401"):
        api.txt2img(**SMALL)
