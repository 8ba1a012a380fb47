"""What plans find on disk by name: checkpoints, VAEs, networks, input pictures."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from danqing.engine.control_load import ControlStore
from danqing.engine.networks import Resolved, resolve
from danqing.errors import DanqingError
from danqing.library.controls import Controls
from danqing.library.embeddings import Embeddings
from danqing.library.networks import Networks
from danqing.library.vaes import choose
from danqing.prompt.networks import network_tags
from danqing.request import GenerateRequest, input_path

if TYPE_CHECKING:
    from PIL import Image

    from danqing.library.index import Checkpoint, Library


Made = TypeVar("Made")

REMEMBERED = 32
"""Control maps kept in memory."""


@dataclass(frozen=True, slots=True)
class Studio:
    """One data root, as plans see it."""

    data: Path
    library: Library
    networks: Networks
    embeddings: Embeddings
    controls: Controls
    control_store: ControlStore = field(default_factory=ControlStore)
    memory: OrderedDict[Any, Any] = field(default_factory=OrderedDict)
    """What was made of input pictures not long ago, by what it was made from: futures."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    held: dict[str, Image.Image] = field(default_factory=dict)
    """Pictures that a script keeps between its steps."""

    @classmethod
    def of(cls, data: Path, library: Library) -> Studio:
        """The studio of a data root."""
        return cls(data, library, Networks(data), Embeddings(data), Controls(data))

    def fresh(self) -> Studio:
        """The same with nothing held, for one plan."""
        return replace(self, held={})

    def checkpoint(self, name: str) -> Checkpoint:
        """
        Raises:
            DanqingError: `unknown_model` or `no_model`.
        """
        return self.library.closest(name)

    def vae(self, checkpoint: Checkpoint, request: GenerateRequest) -> Path | None:
        """The file whose VAE takes the place of the checkpoint's own (spec 15.4)."""
        options = request.options
        return choose(self.data, checkpoint, options.sd_vae, options.sd_vae_overrides_per_model_preferences)

    def resolved(self, prompt: str, request: GenerateRequest) -> Resolved:
        """The networks of a prompt's tags; none where the request switches them off."""
        if request.disable_extra_networks:
            return Resolved((), (), (), "")
        options = request.options
        return resolve(
            network_tags(prompt),
            self.networks,
            always_lora=options.sd_lora,
            always_hypernetwork=options.sd_hypernetwork,
            strength=options.extra_networks_default_multiplier,
        )

    def remembered(self, key: Any, make: Callable[[], Made]) -> Made:
        """What `make` gives, or gave for this key not long ago: the pictures of a job share their control maps.

        Threads that ask for the same at the same time wait for the first of them.
        """
        with self.lock:
            found: Future[Made] | None = self.memory.get(key)
            first = found is None
            if found is None:
                found = self.memory[key] = Future()
                while len(self.memory) > REMEMBERED:
                    self.memory.popitem(last=False)
        if first:
            try:
                found.set_result(make())
            except BaseException as error:  # noqa: BLE001 - it belongs to everybody who waits for it
                with self.lock:
                    self.memory.pop(key, None)
                found.set_exception(error)
        return found.result()

    def hold(self, image: Image.Image) -> str:
        """Keep a picture of a script in memory, for as long as this studio lives; a name for requests."""
        # No name twice: what was made of a picture is remembered beyond its plan.
        name = secrets.token_hex(32)
        self.held[name] = image
        return name

    def image(self, name: str) -> Image.Image:
        """The input picture of this name, decoded.

        Raises:
            DanqingError: `unknown_picture`.
        """
        from PIL import Image

        if name in self.held:
            return self.held[name]
        try:
            image = Image.open(input_path(self.data, name))
            image.load()
        except OSError:
            raise DanqingError("unknown_picture", picture=name[:64]) from None
        return image
