"""What every kind of control model needs when its file is read: a key in memory, and names for what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from danqing.errors import DanqingError
from danqing.library.controls import Control
from danqing.library.index import stamp_of

if TYPE_CHECKING:
    from danqing.engine.models import Model


def key_of(control: Control, model: Model) -> str:
    """A file in one state, for models of one shape."""
    return f"{control.path}:{stamp_of(control.path)}:{model.architecture.unet}"


def misfit(control: Control, model: Model, reason: str) -> DanqingError:
    """A control model made for another kind of checkpoint."""
    return DanqingError("control_misfit", name=control.name, model=model.checkpoint.name, reason=reason)


@contextmanager
def named_failures(control: Control) -> Iterator[None]:
    """Whatever goes wrong while a file is read becomes `control_broken`."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError) as error:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise DanqingError("control_broken", name=control.name, reason=reason) from error
