"""/controlnet: lists as recorded from the extension, maps as recorded, errors in its words."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.api.support import assert_four_keys, image_of
from tests.conftest import Server

RECORDED = Path(__file__).parent.parent / "control" / "reference"
MASKED = "inpaint_only"


@pytest.fixture
def client(server: Server) -> httpx.Client:
    return server.client()


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"cn_{name}.json").read_text("utf-8"))


def picture(image: Image.Image | None = None, kind: str = "PNG") -> str:
    """Base64 of a picture; without one, of the recordings' input."""
    if image is None:
        return base64.b64encode((RECORDED / "check160x96.png").read_bytes()).decode("ascii")
    out = io.BytesIO()
    image.save(out, kind)
    return base64.b64encode(out.getvalue()).decode("ascii")


def detect(client: httpx.Client, **fields: Any) -> httpx.Response:
    return client.post("/controlnet/detect", json=fields)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("version", "version"),
        ("settings", "settings"),
        ("module_list", "module_list"),
        ("module_list?alias_names=true", "module_list_alias"),
    ],
)
def test_lists_as_recorded(client: httpx.Client, path: str, name: str) -> None:
    assert client.get(f"/controlnet/{path}").json() == recorded(name)


def test_types_as_recorded_but_for_the_models(client: httpx.Client) -> None:
    found = client.get("/controlnet/control_types").json()["control_types"]
    for kind, row in recorded("control_types")["control_types"].items():
        assert found[kind]["module_list"] == row["module_list"]
        assert found[kind]["default_option"] == row["default_option"]
        assert found[kind]["model_list"][0] == "None"


def test_models_are_those_on_disk(client: httpx.Client, server: Server) -> None:
    file = server.data / "models" / "ControlNet" / "some_v11_canny.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    before = client.get("/controlnet/model_list").json()["model_list"]
    file.write_bytes(b"\0" * 2**21)
    try:
        (title,) = set(client.get("/controlnet/model_list", params={"update": "true"}).json()["model_list"]) - {*before}
        assert title.startswith("some_v11_canny [")
        kinds = client.get("/controlnet/control_types").json()["control_types"]
        assert title in kinds["All"]["model_list"]
        assert title in kinds["Canny"]["model_list"]
        assert title not in kinds["Depth"]["model_list"]
        assert kinds["Canny"]["default_model"] != "None"
        assert kinds["All"]["default_model"] == "None"
    finally:
        file.unlink()


@pytest.mark.parametrize(
    "module", ["canny", "invert", "none", "recolor_intensity", "recolor_luminance", "scribble_xdog"]
)
def test_maps_as_recorded(client: httpx.Client, module: str) -> None:
    request = json.loads((RECORDED / f"detect_{module}.json").read_text("utf-8"))["request"]
    answer = detect(client, **{**request, "controlnet_input_images": [picture()]}).json()
    assert answer["info"] == "Success"
    (text,) = answer["images"]
    found = np.asarray(image_of(text).convert("RGB"), dtype=int)
    wanted = np.asarray(Image.open(RECORDED / f"detect_{module}.0.png").convert("RGB"))
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 2


def test_labels_do_as_well_as_names_and_every_picture_has_its_map(client: httpx.Client) -> None:
    small = picture(Image.new("L", (5, 7), 200))
    fields = {"controlnet_module": "invert (from white bg & black line)", "controlnet_input_images": [small, picture()]}
    first, second = detect(client, **fields).json()["images"]
    assert image_of(first).size == (5, 7)
    assert image_of(first).getpixel((0, 0)) == (55, 55, 55)
    assert image_of(second).size == (160, 96)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "F", "CMYK"])
def test_pictures_of_every_mode(client: httpx.Client, mode: str) -> None:
    text = picture(Image.new(mode, (9, 4)), "TIFF")
    answer = detect(
        client, controlnet_module="canny", controlnet_input_images=[f"data:image/tiff;base64,{text}"]
    ).json()
    assert image_of(answer["images"][0]).size == (1152, 512)


def test_masks(client: httpx.Client) -> None:
    mask = Image.new("L", (160, 96))
    mask.paste(255, (0, 0, 80, 96))
    fields = {"controlnet_module": MASKED, "controlnet_input_images": [picture(Image.new("RGB", (160, 96), "red"))]}
    assert "mask" in assert_four_keys(detect(client, **fields), 422)["detail"]
    (text,) = detect(client, **fields, controlnet_masks=[picture(mask)]).json()["images"]
    assert image_of(text).getpixel((10, 10)) == (0, 0, 0)
    assert image_of(text).getpixel((100, 10)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("module", "detail"),
    [
        ("zzz", "Module not available"),
        ("clip_vision", "Module not supported"),
        ("revision_clipvision", "Module not supported"),
        ("revision_ignore_prompt", "Module not supported"),
        ("ip-adapter-auto", "Module not supported"),
    ],
)
def test_refused_in_the_extension_s_words(client: httpx.Client, module: str, detail: str) -> None:
    response = detect(client, controlnet_module=module, controlnet_input_images=[picture()])
    body = assert_four_keys(response, 422)
    assert body == {"error": "HTTPException", "detail": detail, "body": "", "errors": ""}


def test_no_picture(client: httpx.Client) -> None:
    assert assert_four_keys(detect(client, controlnet_module="canny"), 422)["detail"] == "No image selected"


@pytest.mark.parametrize(
    "text", ["", "!", "https://example.com/x.png", base64.b64encode(b"no picture").decode("ascii")]
)
def test_what_is_no_picture(client: httpx.Client, text: str) -> None:
    assert_four_keys(detect(client, controlnet_module="canny", controlnet_input_images=[text]), 422)


def test_too_many_pictures(client: httpx.Client) -> None:
    response = detect(client, controlnet_module="none", controlnet_input_images=["x"] * 1000)
    assert assert_four_keys(response, 422)["error"] == "TooManyImages"


@pytest.mark.parametrize("module", ["densepose", "depth_anything_v2"])
def test_what_is_not_built_in_says_so_by_name(client: httpx.Client, module: str) -> None:
    body = assert_four_keys(detect(client, controlnet_module=module, controlnet_input_images=[picture()]), 422)
    assert body["error"] == "PreprocessorAbsent"
    assert module.partition("_")[0] in body["detail"]


def test_a_network_without_weights_names_the_file_and_what_fetches_it(client: httpx.Client) -> None:
    body = assert_four_keys(detect(client, controlnet_module="depth_midas", controlnet_input_images=[picture()]), 422)
    assert body["error"] == "AnnotatorMissing"
    assert "dpt_hybrid-midas-501f0c75.pt" in body["detail"]
    assert "python -m danqing.library.fetch" in body["detail"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_network_s_map_comes_from_the_engine(client: httpx.Client, server: Server) -> None:
    """Random weights in the layout of the real file: the map is of the right size and of this picture."""
    import torch

    from danqing import torchvision_shim as torchvision_shim  # isort: split
    from controlnet_aux.pidi.model import pidinet

    torch.manual_seed(0)
    file = server.data / "models" / "annotators" / "table5_pidinet.pth"
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": {f"module.{key}": value for key, value in pidinet().state_dict().items()}}, file)
    try:
        fields = {"controlnet_module": "softedge_pidinet", "controlnet_processor_res": 64}
        answer = detect(client, **fields, controlnet_input_images=[picture(), picture(Image.new("L", (9, 9)))]).json()
        assert answer["info"] == "Success"
        assert "poses" not in answer
        first, second = (image_of(text) for text in answer["images"])
        assert (first.size, second.size) == ((107, 64), (64, 64))
        assert np.asarray(first.convert("L")).std() > 0
        assert_four_keys(detect(client, **fields, controlnet_input_images=["!"]), 422)
        file.write_bytes(b"no weights")
        body = assert_four_keys(detect(client, **fields, controlnet_input_images=[picture()]), 422)
        assert body["error"] == "AnnotatorBroken"
    finally:
        file.unlink()


@pytest.mark.parametrize(
    "fields",
    [
        {"controlnet_input_images": "x"},
        {"controlnet_input_images": [None]},
        {"controlnet_processor_res": "wide"},
        {"controlnet_module": 5},
    ],
)
def test_wrong_types(client: httpx.Client, fields: dict[str, Any]) -> None:
    assert detect(client, **fields).status_code == 422


def test_poses_are_drawn(client: httpx.Client) -> None:
    value = {
        "canvas_width": 64,
        "canvas_height": 32,
        "people": [{"pose_keypoints_2d": [32, 16, 1], "face_keypoints_2d": None}],
    }
    answer = client.post("/controlnet/render_openpose_json", json=[value, value]).json()
    assert answer["info"] == "Success"
    assert len(answer["images"]) == 2
    assert image_of(answer["images"][0]).size == (64, 32)
    assert image_of(answer["images"][0]).getpixel((32, 16)) == (255, 0, 0)


def test_poses_that_are_none(client: httpx.Client) -> None:
    path = "/controlnet/render_openpose_json"
    assert client.post(path, json=[]).json() == {"info": "No pose data detected."}
    assert_four_keys(client.post(path, json=[{"people": 5, "canvas_width": 9, "canvas_height": 9}]), 422)
    assert_four_keys(client.post(path, json=[{"people": [], "canvas_width": 10**9, "canvas_height": 9}]), 422)


def test_what_is_not_there(client: httpx.Client) -> None:
    assert client.get("/controlnet/nothing").status_code == 404
    assert client.get("/controlnet/detect").status_code == 405
    assert client.get("/controlnet/detect").json() == {"detail": "Method Not Allowed"}
