"""Plug-ins found in folders and packages, called, switched off when they raise; both processes see a switch."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from danqing.errors import DanqingError
from danqing.plugins import Box, Script
from danqing.plugins.loading import Plugins, checked_box
from danqing.request import GenerateRequest

TOML = 'version = "0.1"\ntitle = "Shout"\ntitle_zh = "呼喊"\nabout = "Louder."\n'
SHOUT = """
from danqing.plugins import Sampler, hookimpl

@hookimpl
def danqing_before_job(request):
    return request.model_copy(update={"prompt": request.prompt.upper()})

@hookimpl
def danqing_samplers():
    return [Sampler("Shout")]
"""
RAISES = """
from danqing.plugins import hookimpl

@hookimpl
def danqing_before_job(request):
    return 1 / 0
"""


def install(data: Path, name: str, plugin: str, toml: str = TOML) -> Path:
    folder = data / "plugins" / name
    folder.mkdir(parents=True)
    (folder / "plugin.py").write_text(plugin, "utf-8")
    if toml:
        (folder / "plugin.toml").write_text(toml, "utf-8")
    return folder


def loaded(data: Path) -> Plugins:
    plugins = Plugins(data)
    plugins.find()
    return plugins


def states(plugins: Plugins) -> dict[str, tuple[bool, str]]:
    return {one.name: (one.enabled, one.error) for one in plugins.all()}


def after(plugins: Plugins, prompt: str = "a cat") -> str:
    told = {"request": GenerateRequest(prompt=prompt), "data": Path()}
    for _, changed in plugins.calls("danqing_before_job", told):
        told["request"] = changed
    return told["request"].prompt


def test_a_folder_is_a_plugin_and_its_hooks_are_called(tmp_path: Path) -> None:
    install(tmp_path, "shout", SHOUT)
    plugins = loaded(tmp_path)
    (one,) = [info for info in plugins.all() if info.origin == "folder"]
    assert (one.name, one.version, one.title, one.about) == ("shout", "0.1", ("Shout", "呼喊"), ("Louder.", "Louder."))
    assert after(plugins) == "A CAT"
    assert [row.name for row in plugins.samplers()] == ["Shout"]


def test_what_raises_is_switched_off_and_the_others_go_on(tmp_path: Path) -> None:
    install(tmp_path, "broken", RAISES)
    install(tmp_path, "shout", SHOUT)
    plugins = loaded(tmp_path)
    assert after(plugins) == "A CAT"
    enabled, error = states(plugins)["broken"]
    assert enabled
    assert error.startswith("danqing_before_job: ZeroDivisionError: division by zero, plugin.py:")
    assert states(loaded(tmp_path))["broken"][1] == error, "it stays off after a restart, and says why"
    plugins.switch("broken", True)
    assert states(plugins)["broken"] == (True, ""), "switched on again it gets another chance"


@pytest.mark.parametrize(
    ("plugin", "toml", "reason"),
    [
        ("import torch_that_is_not_there", TOML, "ModuleNotFoundError"),
        ("from danqing.plugins import hookimpl\n@hookimpl\ndef danqing_no_such_hook(): pass", TOML, "PluginValidation"),
        (SHOUT, "", "plugin.toml is missing"),
        (SHOUT, "version = ", "plugin.toml: "),
        ("raise RuntimeError('when read')", TOML, "RuntimeError: when read"),
    ],
)
def test_what_cannot_be_loaded_says_why(tmp_path: Path, plugin: str, toml: str, reason: str) -> None:
    install(tmp_path, "odd", plugin, toml)
    (one,) = [info for info in loaded(tmp_path).all() if info.origin == "folder"]
    assert reason in one.error


def test_folders_that_everybody_may_write_or_with_odd_names_are_not_read(tmp_path: Path) -> None:
    install(tmp_path, "open", SHOUT).chmod(0o777)
    install(tmp_path, "Odd-name", SHOUT)
    plugins = loaded(tmp_path)
    assert {info.name for info in plugins.all() if info.error} == {"open@folder", "Odd-name@folder"}
    assert after(plugins) == "a cat"
    with pytest.raises(DanqingError, match="open@folder"):
        plugins.switch("open@folder", True)


def test_a_switch_works_in_the_other_process_too(tmp_path: Path) -> None:
    folder = install(tmp_path, "shout", SHOUT)
    web, engine = loaded(tmp_path), Plugins(tmp_path, "engine")
    engine.find()
    web.switch("shout", False)
    assert after(engine) == after(web) == "a cat"
    (folder / "plugin.py").write_text(SHOUT.replace("upper", "title"), "utf-8")
    engine.switch("shout", True)
    assert after(web) == "A Cat", "switched on again, the files are read anew"
    with pytest.raises(DanqingError) as caught:
        web.switch("nothing", True)
    assert caught.value.code == "unknown_plugin"


def test_a_refusal_reaches_whoever_asked(tmp_path: Path) -> None:
    refuse = (
        "from danqing.errors import DanqingError\nfrom danqing.plugins import hookimpl\n@hookimpl\n"
        "def danqing_before_job(request):\n    raise DanqingError('broken_text', field='prompt')"
    )
    install(tmp_path, "strict", refuse)
    plugins = loaded(tmp_path)
    with pytest.raises(DanqingError, match="prompt"):
        after(plugins)
    assert states(plugins)["strict"] == (True, "")


def test_rows_of_a_wrong_kind_end_their_plugin(tmp_path: Path) -> None:
    install(tmp_path, "odd", SHOUT.replace('Sampler("Shout")', '"Shout"'))
    plugins = loaded(tmp_path)
    assert plugins.samplers() == []
    assert "Sampler expected, not str" in states(plugins)["odd"][1]


def test_an_installed_package_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    (site / "loud_package").mkdir(parents=True)
    (site / "loud_package" / "__init__.py").touch()
    (site / "loud_package" / "plugin.py").write_text(SHOUT, "utf-8")
    info = site / "loud-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1.2\nSummary: Louder.\n")
    (info / "entry_points.txt").write_text("[danqing.plugins]\nloud = loud_package\n")
    monkeypatch.syspath_prepend(str(site))
    plugins = loaded(tmp_path / "data")
    (one,) = [row for row in plugins.all() if row.origin == "package"]
    assert (one.name, one.version, one.about[0], one.error) == ("loud", "1.2", "Louder.", "")
    assert after(plugins) == "A CAT"
    sys.modules.pop("loud_package.plugin", None)


def test_settings_of_plugins_are_read_and_left_alone_without_them(tmp_path: Path) -> None:
    plugin = (
        "from danqing.plugins import hookimpl\nfrom danqing.settings import Setting\n@hookimpl\n"
        "def danqing_settings():\n    return [Setting('plugin_level', 3, 'Level.', '级别。', 0, 9)]"
    )
    install(tmp_path, "level", plugin)
    assert loaded(tmp_path).value("plugin_level") == 3
    (tmp_path / "settings.toml").write_text("plugin_level = 5\n")
    assert loaded(tmp_path).value("plugin_level") == 5
    from danqing.app import load_settings

    load_settings(tmp_path)
    (tmp_path / "settings.toml").write_text("plugin_level = 50\n")
    with pytest.raises(DanqingError, match="between"):
        loaded(tmp_path).value("plugin_level")


def test_arguments_come_from_the_request_else_from_the_boxes() -> None:
    script = Script("Film Grain", "", "", (Box("amount", "", "", 0.5, 0, 1), Box("on", "", "", False)))
    request = GenerateRequest(plugins={"film grain": {"on": True}})
    assert script.arguments(request) == {"amount": 0.5, "on": True}
    for box in (Box("n", "", "", 3), Box("c", "", "", "a", choices=("b",))):
        with pytest.raises(ValueError):
            checked_box(box)
