"""Settings: one table of name, type, default, bounds and help in both languages.

Each room declares its rows in its own `settings.py`; `danqing.app` gathers them. Values come, later ones winning, from the
default, `DATA/settings.toml`, the environment (`DANQING_<NAME>`) and the command line.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from danqing.errors import DanqingError

Value = bool | int | float | str

PLUGIN = "plugin_"
"""Names of plug-ins' settings begin so; who does not know the plug-in passes them over."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One row. `minimum` and `maximum` bound numbers (both inclusive); `choices` bounds strings."""

    name: str
    default: Value
    en: str
    zh: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """The environment variable that sets this row."""
        return "DANQING_" + self.name.upper()

    def parse(self, raw: object) -> Value:
        """`raw` (a string from the environment, or a TOML value) as this row's type.

        Raises:
            DanqingError: `bad_setting`, when the type or the bounds do not fit.
        """
        value = self._typed(raw)
        if self.choices and value not in self.choices:
            raise DanqingError(
                "bad_setting", name=self.name, reason=f"{value!r} is not one of {', '.join(self.choices)}"
            )
        if isinstance(value, int | float) and not isinstance(value, bool):
            low, high = self.minimum, self.maximum
            if value != value or (low is not None and value < low) or (high is not None and value > high):
                raise DanqingError("bad_setting", name=self.name, reason=f"{value} is not between {low} and {high}")
        return value

    def _typed(self, raw: object) -> Value:
        if isinstance(self.default, bool):
            if isinstance(raw, bool):
                return raw
            words = {
                "1": True,
                "true": True,
                "yes": True,
                "on": True,
                "0": False,
                "false": False,
                "no": False,
                "off": False,
            }
            if str(raw).lower() in words:
                return words[str(raw).lower()]
            raise DanqingError("bad_setting", name=self.name, reason=f"{raw!r} is neither true nor false")
        try:
            return self._number(str(raw)) if isinstance(self.default, int | float) else str(raw)
        except (TypeError, ValueError):
            kind = type(self.default).__name__
            raise DanqingError("bad_setting", name=self.name, reason=f"{raw!r} is not of type {kind}") from None

    def _number(self, text: str) -> Value:
        return int(text) if isinstance(self.default, int) else float(text)


class Settings:
    """The values in force. Read with `settings.get_int("name")` and its siblings, so that types are checked."""

    def __init__(self, rows: Iterable[Setting], values: Mapping[str, object] | None = None) -> None:
        self.rows: dict[str, Setting] = {}
        for row in rows:
            if row.name in self.rows:
                raise ValueError(f"setting {row.name} is declared twice")
            self.rows[row.name] = row
        self._values: dict[str, Value] = {row.name: row.default for row in self.rows.values()}
        for name, raw in (values or {}).items():
            if name not in self.rows and name.startswith(PLUGIN):
                continue
            if name not in self.rows:
                raise DanqingError("bad_setting", name=name, reason="there is no setting of this name")
            self._values[name] = self.rows[name].parse(raw)

    @classmethod
    def load(
        cls,
        rows: Iterable[Setting],
        data: Path,
        overrides: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        known: Container[str] | None = None,
    ) -> Settings:
        """Defaults, then `data/settings.toml`, then the environment, then `overrides`.

        `known`: names that the file may hold; others are passed over instead of refused. None refuses unknown names.
        """
        table = list(rows)
        values: dict[str, object] = {}
        file = data / "settings.toml"
        if file.is_file():
            try:
                values.update(tomllib.loads(file.read_text("utf-8")))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise DanqingError("bad_setting", name=file.name, reason=str(error)) from None
        if known is not None:
            values = {name: value for name, value in values.items() if name in known}
        env = os.environ if environ is None else environ
        values.update({row.name: env[row.variable] for row in table if row.variable in env})
        values.update(overrides or {})
        return cls(table, values)

    @classmethod
    def load_known(cls, rows: Iterable[Setting], data: Path, overrides: Mapping[str, object] | None = None) -> Settings:
        """Like `load` for a program that knows only some rows: rows of the file that belong to others are passed over."""
        table = list(rows)
        names = {row.name for row in table}
        return cls.load(table, data, overrides, known=names)

    @staticmethod
    def keep(data: Path, rows: Iterable[Setting], values: Mapping[str, object]) -> None:
        """Write values into `data/settings.toml`; what else stands there stays. They count from the next start on.

        Raises:
            DanqingError: `bad_setting`, before anything is written; `cannot_write`.
        """
        table = {row.name: row for row in rows}
        told = {name: table[name].parse(raw) for name, raw in values.items() if name in table}
        path = data / "settings.toml"
        try:
            lines = path.read_text("utf-8").splitlines() if path.is_file() else []
            kept = [line for line in lines if line.partition("=")[0].strip() not in told]
            fresh = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in told.items()]
            part = path.with_name(".settings.toml.part")
            part.write_text("\n".join([*fresh, *kept]) + "\n", "utf-8")
            part.replace(path)
        except OSError as error:
            raise DanqingError("cannot_write", path=str(path), reason=error.strerror or str(error)) from None

    def values(self) -> dict[str, Value]:
        """A copy of all values by name."""
        return dict(self._values)

    def get_int(self, name: str) -> int:
        value = self._values[name]
        assert isinstance(value, int), name
        return value

    def get_float(self, name: str) -> float:
        value = self._values[name]
        assert isinstance(value, int | float), name
        return value

    def get_bool(self, name: str) -> bool:
        value = self._values[name]
        assert isinstance(value, bool), name
        return value

    def get_str(self, name: str) -> str:
        value = self._values[name]
        assert isinstance(value, str), name
        return value
