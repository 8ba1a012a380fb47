"""Compiled halves of VAEs in the engine.

A VAE moves: to the machine's memory while the UNet needs the room, to float32 when its numbers are too large for less. Compiled
code holds addresses and no tensors, so that it is given the weights anew wherever these lie elsewhere than they did.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch

from danqing.engine import compile_unet, compile_vae
from danqing.engine.compile_store import Want
from danqing.engine.compile_vae import SCALE, Coder, Variant
from danqing.engine.compiled_shelf import Candidate, Key, Shelf
from danqing.engine.memory import is_out_of_memory

Places = tuple[int, ...]
"""Addresses of weights, in the order of their names in a half."""


class _Half:
    """One half of a VAE, and where the weights lay that a package was given."""

    def __init__(self, coder: Coder, package: Any) -> None:
        self._coder = coder
        self._bound: Places = ()
        self.bind(package)

    def bind(self, package: Any) -> None:
        """Give the package the weights, unless they lie where they lay."""
        if self._bound and self._bound == tuple(row.data_ptr() for row in self._coder.parameters()):
            return
        constants = compile_unet.constants_of(self._coder, package.get_constant_fqns(), prefix="")
        package.load_constants(constants, check_full_update=True, user_managed=True)
        self._bound = tuple(constants[name].data_ptr() for name, _ in self._coder.named_parameters())


class CompiledVaes:
    """What of a shelf is for VAEs. The engine's thread calls everything here."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._known: dict[int, tuple[Any, torch.dtype, str]] = {}
        """By `id`: the VAE itself, so that no other gets its number; the format that it was described in; its architecture."""
        self.runs = 0
        """Batches that compiled code decoded or encoded."""

    def candidates(self, vaes: Sequence[Any]) -> Iterator[Candidate]:
        """The VAEs in memory; what belongs to others, or to another format of these, is dropped."""
        for vae, dtype, _ in list(self._known.values()):
            if vae.dtype != dtype or all(vae is not other for other in vaes):
                self.drop(vae)
        for vae in vaes:
            if id(vae) not in self._known:
                self._known[id(vae)] = vae, vae.dtype, compile_vae.architecture_of(vae)
            yield Candidate(id(vae), self._known[id(vae)][2], vae.dtype, partial(_bound, vae))

    def run(self, vae: Any, variant: Variant, x: torch.Tensor) -> torch.Tensor | None:
        """What this half makes of `x`, on the device and in the VAE's format (see `Coder`); None where the eager one must run.

        Raises:
            RuntimeError: there is too little memory.
        """
        scale = SCALE if variant == "encode" else 1
        key: Key = (id(vae), variant, x.shape[-2] // scale, x.shape[-1] // scale)
        ready = self._shelf.ready.get(key)
        if ready is None or self._known[id(vae)][1] != vae.dtype:
            return None
        try:
            ready.bound.bind(ready.network)
            out: torch.Tensor = ready.network(x.contiguous())
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self._shelf.refuse(key, error)
            return None
        self.runs += 1
        return out

    def drop(self, vae: Any) -> None:
        """Forget the code of a VAE that leaves memory."""
        self._known.pop(id(vae), None)
        self._shelf.drop(id(vae))

    def relax(self) -> None:
        """Hold no VAE any longer; their code is read again."""
        for vae, _, _ in list(self._known.values()):
            self.drop(vae)


def _bound(vae: Any, want: Want, package: Any) -> _Half:
    return _Half(Coder(vae, "encode" if want.variant == "encode" else "decode"), package)
