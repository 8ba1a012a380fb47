"""Taking over a WebUI's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from danqing.api.options import Options
from danqing.errors import DanqingError
from danqing.library.cli import app
from danqing.library.importing import import_webui

FILES = {
    "models/Stable-diffusion/anime/one.safetensors": "models/Stable-diffusion/anime/one.safetensors",
    "models/Stable-diffusion/two.ckpt": "models/Stable-diffusion/two.ckpt",
    "models/Stable-diffusion/two.yaml": "models/Stable-diffusion/two.yaml",
    "models/VAE/v.pt": "models/VAE/v.pt",
    "models/Lora/l.safetensors": "models/Lora/l.safetensors",
    "models/hypernetworks/h.pt": "models/hypernetworks/h.pt",
    "models/ControlNet/c.pth": "models/ControlNet/c.pth",
    "extensions/sd-webui-controlnet/models/d.pth": "models/ControlNet/d.pth",
    "extensions/sd-webui-controlnet/annotator/downloads/hed/e.pth": "models/annotators/hed/e.pth",
    "models/ESRGAN/4x.pth": "models/ESRGAN/4x.pth",
    "models/BSRGAN/b.pth": "models/BSRGAN/b.pth",
    "embeddings/bad.pt": "embeddings/bad.pt",
    "outputs/txt2img-images/2024-01-01/00001-1.png": "outputs/txt2img-images/2024-01-01/00001-1.png",
    "styles.csv": "styles.csv",
}
LEFT = (
    "models/karlo/x.ckpt",
    "extensions/some-extension/install.py",
    "ui-config.json",
    "models/Stable-diffusion/.gitkeep",
)


@pytest.fixture
def webui(tmp_path: Path) -> Path:
    root = tmp_path / "webui"
    for name in (*FILES, *LEFT):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    elsewhere = tmp_path / "pictures"
    elsewhere.mkdir()
    (elsewhere / "1.png").write_text("1")
    config = {
        "CLIP_stop_at_last_layers": 2,
        "comma_padding_backtrack": 10,
        "randn_source": "NV",
        "emphasis": "no such mode",
        "eta_noise_seed_delta": 0,
        "an_extension_s_option": True,
        "outdir_img2img_samples": str(elsewhere),
    }
    (root / "config.json").write_text(json.dumps(config))
    return root


def test_everything_is_linked_and_nothing_copied(tmp_path: Path, webui: Path) -> None:
    data = tmp_path / "data"
    done = import_webui(webui, data)
    for source, target in FILES.items():
        assert (data / target).is_symlink()
        assert (data / target).resolve() == webui / source
    assert (data / "outputs/img2img-images/1.png").read_text() == "1"
    assert done.linked["models/ControlNet"] == 2
    assert not done.present
    assert done.left == ["extensions/some-extension", "models/karlo", "ui-config.json"]
    assert not (data / "models/Stable-diffusion/.gitkeep").exists()


def test_options_that_are_understood_become_defaults(tmp_path: Path, webui: Path) -> None:
    data = tmp_path / "data"
    done = import_webui(webui, data)
    assert done.options == {"CLIP_stop_at_last_layers": 2, "comma_padding_backtrack": 10, "randn_source": "NV"}
    assert done.options_left == ["emphasis", "an_extension_s_option"]
    options = Options(data)
    assert options.of("somebody")["CLIP_stop_at_last_layers"] == 2
    options.set("somebody", {"CLIP_stop_at_last_layers": 1})
    assert Options(data).of("somebody")["CLIP_stop_at_last_layers"] == 1
    assert Options(data).of("another")["CLIP_stop_at_last_layers"] == 2


def test_again_links_what_is_new_and_leaves_what_is_there(tmp_path: Path, webui: Path) -> None:
    data = tmp_path / "data"
    (data / "models/VAE").mkdir(parents=True)
    (data / "models/VAE/v.pt").write_text("mine")
    assert import_webui(webui, data).present == ["models/VAE/v.pt"]
    assert (data / "models/VAE/v.pt").read_text() == "mine"
    (webui / "models/Lora/new.safetensors").write_text("new")
    (webui / "models/Lora/l.safetensors").unlink()
    (webui / "models/Lora/l.safetensors").write_text("again")
    assert dict(import_webui(webui, data).linked) == {"models/Lora": 1}


def test_folders_that_go_round_end(tmp_path: Path, webui: Path) -> None:
    (webui / "models/Lora/round").symlink_to(webui / "models/Lora")
    assert import_webui(webui, tmp_path / "data").linked["models/Lora"] == 1


def test_another_folder_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(DanqingError) as caught:
            import_webui(folder, tmp_path / "data")
        assert caught.value.code == "not_webui"


def test_the_command_says_what_it_did(tmp_path: Path, webui: Path) -> None:
    from typer.testing import CliRunner

    arguments = ["import", str(webui), "--data", str(tmp_path / "data")]
    text = CliRunner().invoke(app, arguments, env={"LC_ALL": "C.UTF-8"}).output
    assert "2 files linked into models/ControlNet" in text
    assert "models/karlo" in text
    assert "an_extension_s_option" in text
    text = CliRunner().invoke(app, arguments, env={"LC_ALL": "zh_CN.UTF-8"}).output
    assert "不认识" in text
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert found["left"] == ["extensions/some-extension", "models/karlo", "ui-config.json"]
