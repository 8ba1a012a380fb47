"""The table of preprocessors against what the ControlNet extension lists, and against what is really built."""

from __future__ import annotations

from pathlib import Path

import pytest

from danqing.control import catalog, maps, plain
from danqing.errors import DanqingError

from .support import listed


def test_names_and_labels_in_the_extension_s_order() -> None:
    assert [row.name for row in catalog.ROWS] == listed("module_list")["module_list"]
    assert [row.label for row in catalog.ROWS] == listed("module_list_alias")["module_list"]


@pytest.mark.parametrize("kind", catalog.TYPES)
def test_types(kind: str) -> None:
    recorded = listed("control_types")["control_types"][kind]
    assert [row.label for row in catalog.of_type(kind)] == recorded["module_list"]
    assert catalog.default_of(kind).label == recorded["default_option"]


def test_found_by_name_and_label() -> None:
    for row in catalog.ROWS:
        assert catalog.find(row.name) is row
        assert catalog.find(row.label) is row
    assert catalog.find("invert").name == catalog.find("invert (from white bg & black line)").name
    assert catalog.find("densepose").name == "densepose"


@pytest.mark.parametrize("name", ["zzz", "", "Canny", "invert (", "none "])
def test_unknown_names_are_told_what_there_is(name: str) -> None:
    with pytest.raises(DanqingError) as caught:
        catalog.find(name)
    assert caught.value.code == "unknown_preprocessor"
    assert "canny" in str(caught.value)


@pytest.mark.parametrize(
    ("module", "given", "wanted"),
    [
        ("none", (-1, -1, -1), "512 0.5 0.5"),
        ("canny", (-1, -1, -1), "512 100 200"),
        ("canny", (128, 50.0, 120.0), "128 50.0 120.0"),
        ("canny", (63, 0, 256), "512 100 200"),
        ("canny", (2048, 1, 255), "2048 1 255"),
        ("shuffle", (128, 64, 128), "512 0.5 0.5"),
        ("recolor_luminance", (128, 64, 128), "128 1.0 0.5"),
        ("softedge_anyline", (-1, 3, -1), "1280 3 0.5"),
    ],
)
def test_values_out_of_range_become_the_default(module: str, given: tuple[float, float, float], wanted: str) -> None:
    """As the recorded infotexts write them."""
    values = catalog.settings_of(catalog.find(module), *given)
    assert f"{values.resolution} {values.a} {values.b}" == wanted


def test_models_by_type() -> None:
    titles = ["control_v11p_sd15_canny [1]", "t2iadapter_sketch [2]", "control_sd15_hed [11]", "ip_adapter_sd15 [3]"]
    assert catalog.models_of_type("Canny", titles) == titles[:1]
    assert catalog.models_of_type("T2I-Adapter", titles) == titles[1:2]
    assert catalog.models_of_type("Scribble", titles) == titles[1:2]
    assert catalog.models_of_type("IP-Adapter", titles) == titles[3:]
    assert catalog.models_of_type("All", titles) == titles
    assert catalog.default_model(titles[1:]) == titles[1]
    assert catalog.default_model(titles[::-1]) == titles[0]
    assert catalog.default_model([]) == "None"


def test_every_row_says_what_is_true_of_it() -> None:
    for row in catalog.ROWS:
        weightless = (
            row.name in plain.SIZED or row.name in plain.UNSIZED or row.name in ("shuffle", "inpaint", "inpaint_only")
        )
        assert weightless == (row.how == "plain"), row.name
        assert bool(row.files) == (row.how == "network"), row.name


def test_the_manifest_knows_the_files() -> None:
    for file in {file for row in catalog.ROWS for file in row.files}:
        assert maps.command(Path("data"), file).startswith("python -m danqing.library.fetch --data data"), file
    assert maps.command(Path("data"), "other.pth") == "-"
