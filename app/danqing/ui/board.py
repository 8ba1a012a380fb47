"""Names for the components of the page, so that handlers take and give values by name and never by position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Board:
    """The components of one page, each under a name of its own."""

    components: dict[str, Any] = field(default_factory=dict)
    plugged: list[str] = field(default_factory=list)
    """Names of the boxes that plug-ins have added."""

    def add(self, name: str, component: Any) -> Any:
        """Registers `component` and hands it back."""
        if name in self.components:
            raise ValueError(f"two components are called {name}")
        self.components[name] = component
        return component

    def __getitem__(self, name: str) -> Any:
        return self.components[name]

    def some(self, *names: str) -> set[Any]:
        """The components of these names, as Gradio takes inputs that it hands over in a mapping."""
        return {self.components[name] for name in names}

    def values(self, data: Mapping[Any, Any]) -> dict[str, Any]:
        """What Gradio handed over, by name."""
        return {name: data[component] for name, component in self.components.items() if component in data}

    def updates(self, **values: Any) -> dict[Any, Any]:
        """Values by name, as Gradio takes outputs."""
        return {self.components[name]: value for name, value in values.items()}
