"""The WebUI's options: one table as data (`options.json`), and what each client has set.

There is no global current model or setting: what a client posts applies to that client's requests only.
"""

from __future__ import annotations

import json
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danqing.api.errors import ApiError
from danqing.api.sessions import write_secret
from danqing.errors import DanqingError

TABLE = Path(__file__).with_name("options.json")
CLIENTS = 1000
"""Clients remembered; the ones longest quiet go first."""

TAKEN_OVER = "webui-options.json"
TEXT_LIMIT = 5000


@dataclass(frozen=True, slots=True)
class Option:
    """A row of the table. `restricted` ones cannot be set through the API and are skipped silently."""

    key: str
    default: Any
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    label: str = ""
    """Its name in an infotext, where it has one."""
    restricted: bool = False
    fixed: bool = False
    """It would change pictures and is not obeyed in this version: anything but the default is refused."""
    own: bool = False
    """The WebUI without extensions has none of this name: a list for its clients tells it only where it is set."""

    def checked(self, value: Any) -> Any:
        """`value`, when it fits: numbers within bounds, strings among the choices, the default's type.

        Raises:
            DanqingError: `invalid_field`, `out_of_range`, `broken_text` or `not_available`.
        """
        value = self._typed(value)
        values = value if isinstance(value, list) else [value]
        if self.choices and any(one not in self.choices for one in values):
            raise DanqingError("invalid_field", field=self.key, reason="one of " + ", ".join(self.choices))
        if self.minimum is not None and self.maximum is not None and not self.minimum <= value <= self.maximum:
            raise DanqingError("out_of_range", field=self.key, value=value, minimum=self.minimum, maximum=self.maximum)
        if self.fixed and value != self.default:
            raise DanqingError("not_available", feature=self.key)
        return value

    def _typed(self, value: Any) -> Any:
        kind = type(self.default)
        if self.default is None:
            fits = value is None or isinstance(value, str)
        elif kind is bool:
            fits = isinstance(value, bool)
        elif kind in (int, float):
            fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            fits = fits and abs(value) < 1e15 and (kind is float or value == int(value))
            value = kind(value) if fits else value
        elif kind is list:
            fits = isinstance(value, list) and len(value) < 1000 and all(isinstance(one, str) for one in value)
        else:
            fits = isinstance(value, str)
        if not fits:
            wanted = {"bool": "true or false", "int": "a whole number", "float": "a number", "list": "a list of texts"}
            raise DanqingError("invalid_field", field=self.key, reason=wanted.get(kind.__name__, "a text"))
        if isinstance(value, str) and len(value) > TEXT_LIMIT:
            raise DanqingError("text_too_long", field=self.key, length=len(value), maximum=TEXT_LIMIT)
        return value


def load_table() -> dict[str, Option]:
    """The rows by key, in the order that GET options lists them."""
    rows = json.loads(TABLE.read_text("utf-8"))
    return {row["key"]: Option(**{**row, "choices": tuple(row.get("choices", ()))}) for row in rows}


class Options:
    """What clients have set, kept in `DATA/options.json`. Safe to call from several threads."""

    def __init__(self, data: Path) -> None:
        self.table = load_table()
        self._path = data / "options.json"
        self._lock = threading.Lock()
        self._clients: OrderedDict[str, dict[str, Any]] = self._read()
        self._box = data / TAKEN_OVER
        self._taken_over = self._read_taken_over(self._box)

    def of(self, client: str) -> dict[str, Any]:
        """Every option as it stands for `client`."""
        with self._lock:
            mine = dict(self._clients.get(client, {}))
        return {key: mine.get(key, self._default(key)) for key in self.table}

    def listed(self, client: str) -> dict[str, Any]:
        """The WebUI's options as they stand for `client`, and those of our own that it has set."""
        found = self.of(client)
        return {key: value for key, value in found.items() if not self.table[key].own or value != self._default(key)}

    def _default(self, key: str) -> Any:
        return self._taken_over.get(key, self.table[key].default)

    def row(self, key: str) -> Option:
        """
        Raises:
            ApiError: with the WebUI's words for a key that is not there.
        """
        if key not in self.table:
            raise ApiError(422, "KeyError", repr(key[:200]))
        return self.table[key]

    def checked(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values that may be set, each checked; restricted ones are left out, and so is null where it says nothing.

        Programs in languages with types send null for every key that they do not set.

        Raises:
            ApiError: an unknown key.
            DanqingError: a value that does not fit.
        """
        told = {key: (self.row(key), value) for key, value in values.items()}
        return {
            key: row.checked(value)
            for key, (row, value) in told.items()
            if not row.restricted and (value is not None or row.default is None)
        }

    def set(self, client: str, values: Mapping[str, Any]) -> None:
        """Keep `checked` values for `client`, on disk when this returns.

        Raises:
            DanqingError: `disk_full`, when they cannot be written.
        """
        with self._lock:
            mine = {**self._clients.pop(client, {}), **values}
            self._clients[client] = {key: value for key, value in mine.items() if value != self._default(key)}
            while len(self._clients) > CLIENTS:
                self._clients.popitem(last=False)
            self._write()

    def defaults(self) -> dict[str, Any]:
        """Every option as it stands for a client that has set nothing."""
        return {key: self._default(key) for key in self.table}

    def set_box(self, values: Mapping[str, Any]) -> None:
        """Keep `checked` values as this box's defaults, for every client that has set nothing else; on disk when this returns.

        Raises:
            DanqingError: `disk_full`, when they cannot be written.
        """
        with self._lock:
            told = {**self._taken_over, **values}
            kept = {key: value for key, value in told.items() if value != self.table[key].default}
            _write(self._box, kept)
            self._taken_over = kept

    def forget(self, client: str) -> None:
        """The client has never set anything.

        Raises:
            DanqingError: `disk_full`, when that cannot be written.
        """
        with self._lock:
            if self._clients.pop(client, None) is not None:
                self._write()

    def _write(self) -> None:
        _write(self._path, self._clients)

    def _read(self) -> OrderedDict[str, dict[str, Any]]:
        try:
            kept = json.loads(self._path.read_text("utf-8"))
            return OrderedDict((str(client), self._known(values)) for client, values in kept.items())
        except (OSError, ValueError, AttributeError):
            return OrderedDict()

    def _read_taken_over(self, path: Path) -> dict[str, Any]:
        """This box's defaults: what an administrator set, and `danqing library import` took over from a WebUI."""
        try:
            return self._known(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, AttributeError):
            return {}

    def _known(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What an earlier version kept and this one no longer takes is dropped."""
        found = {}
        for key, value in values.items():
            try:
                found[key] = self.row(key).checked(value)
            except (ApiError, DanqingError):
                continue
        return found


def _write(path: Path, content: Mapping[str, Any]) -> None:
    try:
        write_secret(path, json.dumps(content))
    except OSError:
        raise DanqingError("disk_full", free_mb=0) from None


def as_floats(value: Any) -> Any:
    """The WebUI's answer types every whole number as a float."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
