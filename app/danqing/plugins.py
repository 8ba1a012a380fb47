"""The hooks that plug-ins, and Danqing's own rooms, implement (pluggy)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from danqing.request import GenerateRequest
    from danqing.settings import Setting

PROJECT = "danqing"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Hooks:
    """Every hook, one sentence each."""

    @hookspec
    def danqing_settings(self) -> Sequence[Setting]:  # type: ignore[empty-body]
        """Rows that the plug-in adds to the settings table."""

    @hookspec
    def danqing_before_job(self, request: GenerateRequest) -> GenerateRequest | None:
        """Change a request before it is stored; None leaves it as it is. Called in order of registration."""

    @hookspec
    def danqing_after_picture(self, path: str, infotext: str) -> None:
        """A picture was written whole to `path`."""


def manager() -> pluggy.PluginManager:
    """A plug-in manager that knows the hooks and has no plug-ins yet."""
    plugins = pluggy.PluginManager(PROJECT)
    plugins.add_hookspecs(Hooks)
    return plugins
