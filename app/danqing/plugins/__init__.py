"""The hooks that plug-ins, and Danqing's own extras, implement (pluggy), and what they tell with.

A plug-in is a folder or a Python package with `plugin.py`, which both processes read and which must not import torch, and, where
it draws, `engine.py`, which only the engine's process reads. `danqing.plugins.loading` finds them and keeps the house safe from
them: one that raises is switched off.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from danqing.errors import Language
    from danqing.plugins.loading import Plugins
    from danqing.request import GenerateRequest
    from danqing.settings import Setting

PROJECT = "danqing"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

TABS = ("txt2img", "img2img")


@dataclass(frozen=True, slots=True)
class Box:
    """An argument of a script, shown as a box: a switch, a number (whole when `default` is), a text, or one of `choices`."""

    name: str
    en: str
    zh: str
    default: bool | int | float | str
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Script:
    """A script with its boxes. `name` is its title in the API; `always_on` ones run with every request.

    An always-on script's arguments lie in `request.plugins[name]` when a client gave any; `arguments` fills in the others.
    """

    name: str
    en: str
    zh: str
    boxes: tuple[Box, ...] = ()
    always_on: bool = True
    tabs: tuple[str, ...] = TABS

    def arguments(self, request: GenerateRequest) -> dict[str, Any]:
        """The arguments by the names of their boxes."""
        given = request.plugins.get(self.name.lower(), {})
        return {box.name: given.get(box.name, box.default) for box in self.boxes}


@dataclass(frozen=True, slots=True)
class Sampler:
    """A sampler by the name that menus show; its `danqing_sample` draws with it. `calls`: UNet calls of one step."""

    name: str
    aliases: tuple[str, ...] = ()
    schedule: str = ""
    """Label of its own default schedule; "" is the model's uniform sigmas."""
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Upscaler:
    """An upscaler by the name that menus show; its `danqing_upscale` makes pictures larger. `scale` is what it is made for."""

    name: str
    scale: float = 4.0


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """A ControlNet preprocessor; its `danqing_preprocess` makes the map. `types`: the control types that offer it."""

    name: str
    types: tuple[str, ...] = ("All",)


@dataclass(frozen=True, slots=True)
class Reader:
    """Who looks at a tab: the language, the owner's name and the data folder."""

    language: Language
    owner: str
    data: Path


@dataclass(frozen=True, slots=True)
class Tab:
    """A page of its own. `render` gives its HTML; a form in it is handed to `act`, whose HTML takes its place.

    Both run in a thread and may block; what comes of people or files must be escaped there.
    """

    name: str
    en: str
    zh: str
    render: Callable[[Reader], str]
    act: Callable[[Reader, Mapping[str, str]], str] | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What a hook makes of one picture's request, and what its infotext says of that."""

    request: GenerateRequest
    pairs: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """A picture that a script or a redraw hands out: PIL image, the request it came of (None: the job's), infotext pairs."""

    image: Any
    request: GenerateRequest | None = None
    pairs: Mapping[str, str | int | float] = field(default_factory=dict)


Hold = Callable[[Any], str]
"""Keeps a PIL image under a name that requests can give as `init_images` or as a mask."""

Drawing = Generator["list[GenerateRequest]", "list[Any]", "Sequence[Result]"]
"""Yields requests, one picture each, is sent their PIL images, and returns what it hands out."""


class Hooks:
    """Every hook, one sentence each. An implementation may leave out arguments that it has no use for."""

    @hookspec
    def danqing_settings(self) -> Sequence[Setting]:  # type: ignore[empty-body]
        """Rows that the plug-in adds to the settings table, read when the service starts."""

    @hookspec
    def danqing_scripts(self) -> Sequence[Script]:  # type: ignore[empty-body]
        """Scripts, selectable or always on, with the boxes that the page and the API offer."""

    @hookspec
    def danqing_samplers(self) -> Sequence[Sampler]:  # type: ignore[empty-body]
        """Samplers that menus and the API offer."""

    @hookspec
    def danqing_upscalers(self) -> Sequence[Upscaler]:  # type: ignore[empty-body]
        """Upscalers that menus and the API offer."""

    @hookspec
    def danqing_preprocessors(self) -> Sequence[Preprocessor]:  # type: ignore[empty-body]
        """ControlNet preprocessors that menus and the API offer."""

    @hookspec
    def danqing_tabs(self) -> Sequence[Tab]:  # type: ignore[empty-body]
        """Pages of the plug-in's own in the row of tabs."""

    @hookspec
    def danqing_before_job(self, request: GenerateRequest, data: Path) -> GenerateRequest | None:
        """Web: change a request before it is stored; None leaves it as it is. Called in order of registration."""

    @hookspec
    def danqing_after_picture(self, path: str, infotext: str) -> None:
        """Web: a picture was written whole to `path`."""

    @hookspec
    def danqing_before_picture(self, request: GenerateRequest, index: int, seed: int, data: Path) -> Change | None:
        """Engine: change the request of one picture of a job before it is drawn; None leaves it as it is."""

    @hookspec
    def danqing_redraw(self, request: GenerateRequest, image: Any, seed: int, data: Path, hold: Hold) -> Drawing | None:
        """Engine: go over a finished picture (a PIL image); the first result takes its place, None leaves it as it is."""

    @hookspec
    def danqing_draw_script(
        self, name: str, request: GenerateRequest, args: Mapping[str, Any], data: Path, hold: Hold
    ) -> Drawing | None:
        """Engine: draw with the selectable script `name`; None where it is another plug-in's."""

    @hookspec
    def danqing_sample(self, name: str, x: Any, course: Any) -> Any:
        """Engine: the sampler `name` as a generator like those of `danqing.engine.samplers_base`; None where it is another's."""

    @hookspec
    def danqing_upscale(self, name: str, image: Any, scale: float) -> Any:
        """Engine: a PIL image made larger about `scale` times by the upscaler `name`; None where it is another's."""

    @hookspec
    def danqing_preprocess(self, name: str, image: Any, resolution: int) -> Any:
        """Engine: the control map (a PIL image) that the preprocessor `name` makes of an image; None where it is another's."""


def manager() -> Plugins:
    """Plug-ins of a place without any: only what is registered by hand."""
    from danqing.plugins.loading import Plugins

    return Plugins()
