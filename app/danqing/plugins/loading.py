"""Plug-ins found, loaded, called and switched off.

Three places: Danqing's own under `danqing/shipped`, folders under DATA/plugins, and installed packages that declare an entry
point of the group `danqing.plugins`. Which are off, and why, stands in DATA/plugins/.state/NAME.json: both processes read it
again when it has changed, so that a switch works at once and without a restart.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import re
import stat
import sys
import threading
import time
import tomllib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pluggy

from danqing.errors import DanqingError
from danqing.plugins import PROJECT, Box, Hooks, Preprocessor, Sampler, Script, Tab, Upscaler
from danqing.settings import PLUGIN as SETTING_PREFIX
from danqing.settings import Setting, Settings, Value

log = logging.getLogger(__name__)

GROUP = "danqing.plugins"
FOLDER = "plugins"
NAMESPACE = "danqing_plugins"
"""Folders of DATA/plugins are packages below this name."""
SHIPPED = Path(__file__).parent.parent / "shipped"
NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
REASON_LENGTH = 500

Process = Literal["web", "engine"]
Origin = Literal["shipped", "folder", "package"]


@dataclass(frozen=True, slots=True)
class Info:
    """A plug-in as lists show it. `error`: why it is off although nobody switched it off, "" where that is not so."""

    name: str
    origin: Origin
    package: str
    path: str = ""
    version: str = ""
    title: tuple[str, str] = ("", "")
    about: tuple[str, str] = ("", "")
    enabled: bool = True
    error: str = ""


@dataclass(slots=True)
class _Loaded:
    modules: tuple[Any, ...]


class Plugins:
    """The plug-ins of one process. Hooks may be called from any thread.

    Args:
        data: the data root; None for a place without folders and without a memory.
        process: which of the two processes this is.
    """

    def __init__(self, data: Path | None = None, process: Process = "web") -> None:
        self._data, self._process = data, process
        self._pluggy = pluggy.PluginManager(PROJECT)
        self._pluggy.add_hookspecs(Hooks)
        self._known: dict[str, Info] = {}
        self._loaded: dict[str, _Loaded] = {}
        self._seen: tuple[Any, ...] = ()
        self._lock = threading.RLock()

    # -- what there is --

    def register(self, plugin: object, name: str = "") -> None:
        """Take an object with hooks, as the app's own parts and tests do."""
        self._pluggy.register(plugin, name or None)

    def all(self) -> list[Info]:
        """Every plug-in that was found, those that are off too, in the order in which they are called."""
        self.refresh()
        return list(self._known.values())

    def find(self) -> None:
        """Look at the three places and load what is on. Called once when a process starts, and again to see new folders."""
        with self._lock:
            found: dict[str, Info] = {}
            for info in [*_shipped(), *_packages(), *(_folders(self._data) if self._data else [])]:
                if info.name in found:
                    error = f"there is another plug-in of this name ({found[info.name].origin})"
                    info = replace(info, name=f"{info.name}@{info.origin}", error=error)
                found[info.name] = info
            self._known = found
            self._seen = ()
            self.refresh()

    def refresh(self) -> None:
        """Obey switches that were turned since the last look."""
        if self._data is None:
            return
        seen = self._marks()
        if seen == self._seen:
            return
        with self._lock:
            self._seen = seen
            for name, info in list(self._known.items()):
                if "@" not in name:
                    self._obey(name, replace(info, **self._state(name)))

    def _obey(self, name: str, info: Info) -> None:
        self._known[name] = info
        if info.enabled and not info.error and name not in self._loaded:
            self._load(info)
        elif (not info.enabled or info.error) and name in self._loaded:
            self._unload(name)

    def _marks(self) -> tuple[Any, ...]:
        """What changes when a state file does."""
        assert self._data is not None
        try:
            with os.scandir(self._data / FOLDER / ".state") as entries:
                return tuple(sorted((entry.name, entry.stat().st_mtime_ns) for entry in entries))
        except OSError:
            return (None,)

    def _state(self, name: str) -> dict[str, Any]:
        assert self._data is not None
        try:
            told = json.loads((self._data / FOLDER / ".state" / f"{name}.json").read_text("utf-8"))
            return {"enabled": bool(told.get("enabled", True)), "error": str(told.get("error", ""))}
        except (OSError, ValueError, AttributeError):
            return {"enabled": True, "error": ""}

    def switch(self, name: str, on: bool) -> None:
        """Switch a plug-in on (an error it had is forgotten) or off.

        Raises:
            DanqingError: `unknown_plugin`.
        """
        if name not in self._known or "@" in name:
            raise DanqingError("unknown_plugin", name=name[:60], known=", ".join(self._known) or "-")
        self._write(name, enabled=on, error="")
        self.refresh()

    def _write(self, name: str, **told: Any) -> None:
        if self._data is None:
            return
        folder = self._data / FOLDER / ".state"
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            part = folder / f".{name}.{os.getpid()}.part"
            part.write_text(json.dumps({**told, "when": time.time()}, ensure_ascii=False), "utf-8")
            part.replace(folder / f"{name}.json")

    # -- loading --

    def _load(self, info: Info) -> None:
        names = [f"{info.package}.plugin", *([f"{info.package}.engine"] if self._process == "engine" else [])]
        modules = []
        try:
            for name in names:
                modules.append(_import(name, info))
            if not any(modules):
                raise ImportError("neither plugin.py nor engine.py")
            for module in filter(None, modules):
                self._pluggy.register(module, name=module.__name__)
                self._pluggy.check_pending()
        except Exception as error:  # noqa: BLE001 - whatever a plug-in does when it is read is its own
            self._forget(modules)
            self.fail(info.name, "import", error)
            return
        self._loaded[info.name] = _Loaded(tuple(filter(None, modules)))

    def _forget(self, modules: Sequence[ModuleType | None]) -> None:
        for module in filter(None, modules):
            if self._pluggy.is_registered(module):
                self._pluggy.unregister(module)

    def _unload(self, name: str) -> None:
        self._forget(self._loaded.pop(name).modules)
        if (info := self._known[name]).origin == "folder":
            _drop(info.package)  # switched on again, its files are read anew

    def fail(self, name: str, where: str, error: BaseException) -> None:
        """Switch a plug-in off because it raised: told in the list, in the log, and to the other process."""
        place = traceback.extract_tb(error.__traceback__)
        line = f", {Path(place[-1].filename).name}:{place[-1].lineno}" if place else ""
        reason = f"{where}: {type(error).__name__}: {error}{line}"[:REASON_LENGTH]
        log.error("plug-in %s switched off: %s", name, reason)
        with self._lock:
            if name in self._known:
                self._known[name] = replace(self._known[name], error=reason)
            if name in self._loaded:
                self._unload(name)
        self._write(name, enabled=True, error=reason)

    # -- calling --

    def calls(self, hook: str, told: Mapping[str, Any] | None = None) -> Iterator[tuple[str, Any]]:
        """What each plug-in's hook gives, with its name; None is left out, one that raises is switched off.

        Args:
            told: the hook's arguments. Whoever iterates may change it: the next plug-in is told what it holds then.

        Raises:
            DanqingError: a plug-in's refusal, which is meant for whoever asked.
        """
        self.refresh()
        for name, function, argnames in self._implementations(hook):
            try:
                given = function(*((told or {})[one] for one in argnames))
            except DanqingError:
                raise
            except Exception as error:  # noqa: BLE001 - the plug-in's fault ends the plug-in, nothing else
                self.fail(name, hook, error)
                continue
            if given is not None:
                yield name, given

    def _implementations(self, hook: str) -> list[tuple[str, Any, tuple[str, ...]]]:
        found = getattr(self._pluggy.hook, hook).get_hookimpls()
        names = {id(module): name for name, loaded in self._loaded.items() for module in loaded.modules}
        ordered = sorted(found, key=lambda one: one.trylast - one.tryfirst)
        return [(names.get(id(one.plugin), one.plugin_name), one.function, one.argnames) for one in ordered]

    def listed(self, hook: str, kind: type[Any]) -> list[Any]:
        """All rows of a hook that lists; what is no row of this kind ends its plug-in."""
        rows = []
        for name, given in self.calls(hook):
            try:
                found = list(given)
                for row in found:
                    if not isinstance(row, kind):
                        raise TypeError(f"{kind.__name__} expected, not {type(row).__name__}")
            except Exception as error:  # noqa: BLE001 - as in `calls`
                self.fail(name, hook, error)
                continue
            rows += found
        return rows

    def settings(self) -> list[Setting]:
        """Rows of plug-ins; their names begin with `plugin_`, so that a plug-in that is away leaves no unknown setting behind."""
        return [row for row in self.listed("danqing_settings", Setting) if row.name.startswith(SETTING_PREFIX)]

    def value(self, name: str) -> Value:
        """What a plug-in's setting says: default, DATA/settings.toml, then the environment.

        Raises:
            DanqingError: `bad_setting`.
        """
        rows = [row for row in self.settings() if row.name == name]
        return Settings.load_known(rows, self._data or Path("nowhere")).values()[name]

    def scripts(self, always_on: bool) -> list[Script]:
        """Those whose boxes are complete; a plug-in with another is switched off."""
        rows = []
        for name, given in self.calls("danqing_scripts"):
            try:
                found = [replace(row, boxes=tuple(map(checked_box, row.boxes))) for row in given]
            except Exception as error:  # noqa: BLE001 - as in `calls`
                self.fail(name, "danqing_scripts", error)
                continue
            rows += found
        return [row for row in rows if row.always_on is always_on]

    def samplers(self) -> list[Sampler]:
        return self.listed("danqing_samplers", Sampler)

    def upscalers(self) -> list[Upscaler]:
        return self.listed("danqing_upscalers", Upscaler)

    def preprocessors(self) -> list[Preprocessor]:
        return self.listed("danqing_preprocessors", Preprocessor)

    def tabs(self) -> list[Tab]:
        return self.listed("danqing_tabs", Tab)


def checked_box(box: Box) -> Box:
    """The box, when its bounds are complete.

    Raises:
        ValueError: a number without bounds, or a choice that is none.
    """
    number = isinstance(box.default, int | float) and not isinstance(box.default, bool)
    if number and (box.minimum is None or box.maximum is None):
        raise ValueError(f"{box.name}: a number needs a minimum and a maximum")
    if box.choices and box.default not in box.choices:
        raise ValueError(f"{box.name}: {box.default!r} is not one of its choices")
    return box


# -- the three places --


def _shipped() -> Iterator[Info]:
    for path in sorted(SHIPPED.iterdir()) if SHIPPED.is_dir() else ():
        if (path / "plugin.toml").is_file():
            yield _described(Info(path.name, "shipped", f"danqing.shipped.{path.name}", str(path)))


def _packages() -> Iterator[Info]:
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda one: one.name):
        about = entry.dist.metadata["Summary"] or "" if entry.dist else ""
        version = entry.dist.version if entry.dist else ""
        info = Info(entry.name, "package", entry.value, "", version, (entry.name, entry.name), (about, about))
        yield info if NAME.fullmatch(entry.name) else replace(info, error="a name is a-z, 0-9 and _")


def _folders(data: Path) -> Iterator[Info]:
    root = data / FOLDER
    try:
        paths = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))
    except OSError:
        return
    for path in paths:
        info = Info(path.name, "folder", f"{NAMESPACE}.{path.name}", str(path))
        if not NAME.fullmatch(path.name):
            yield replace(info, name=f"{path.name}@folder", error="a name is a-z, 0-9 and _")
        elif path.stat().st_mode & stat.S_IWOTH:
            yield replace(info, name=f"{path.name}@folder", error="everybody on this machine may write into it")
        else:
            yield _described(info)


def _described(info: Info) -> Info:
    """With what `plugin.toml` says."""
    try:
        told = tomllib.loads((Path(info.path) / "plugin.toml").read_text("utf-8"))
    except FileNotFoundError:
        return replace(info, name=f"{info.name}@{info.origin}", error="plugin.toml is missing")
    except (OSError, ValueError) as error:
        return replace(info, name=f"{info.name}@{info.origin}", error=f"plugin.toml: {error}"[:REASON_LENGTH])

    def pair(key: str, other: str) -> tuple[str, str]:
        english = str(told.get(key, other))
        return english, str(told.get(f"{key}_zh", english))

    return replace(info, version=str(told.get("version", "")), title=pair("title", info.name), about=pair("about", ""))


def _import(name: str, info: Info) -> ModuleType | None:
    """The module, None where the plug-in has none of this name."""
    if info.origin == "folder":
        _package_of(info)
        if not (Path(info.path) / f"{name.rpartition('.')[2]}.py").is_file():
            return None
    elif importlib.util.find_spec(name) is None:
        return None
    return importlib.import_module(name)


def _package_of(info: Info) -> None:
    """Makes a folder importable as a package below `danqing_plugins`, whether it has an `__init__.py` or not."""
    top = sys.modules.setdefault(NAMESPACE, ModuleType(NAMESPACE))
    top.__path__ = []
    package = sys.modules.get(info.package)
    if package is None or list(getattr(package, "__path__", [])) != [info.path]:
        _drop(info.package)
        package = ModuleType(info.package)
        package.__path__ = [info.path]
        sys.modules[info.package] = package


def _drop(package: str) -> None:
    for name in [one for one in sys.modules if one == package or one.startswith(f"{package}.")]:
        del sys.modules[name]
    importlib.invalidate_caches()


# -- the process's own --

_ACTIVE: list[Plugins] = [Plugins()]


def active() -> Plugins:
    """The plug-ins of this process: the tables of samplers, upscalers and scripts ask them for more rows."""
    return _ACTIVE[0]


def activate(plugins: Plugins) -> Plugins:
    """Makes these the process's own."""
    _ACTIVE[0] = plugins
    return plugins
