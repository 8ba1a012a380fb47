"""The training itself: step after step, from wherever the last saved state left off.

Whatever is drawn at random in a step (pictures, captions, noise, timesteps, dropout) is a function of the seed and the step's
number, so that a training that was killed goes on exactly as it would have gone.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from danqing.errors import DanqingError
from danqing.library.whole import replace_whole
from danqing.train.captions import caption_of, class_prompts
from danqing.train.drawing import Painter, png, sampled
from danqing.train.files import save_torch
from danqing.train.folder import Training, write_error
from danqing.train.latents import Item, Latents
from danqing.train.loss import mean_error, noise_like, noised, target_of, weights_of
from danqing.train.methods import METHODS
from danqing.train.methods.base import Facts
from danqing.train.networks import DTYPES, Networks
from danqing.train.optimizing import Optimizing
from danqing.train.order import Order
from danqing.train.prepare import Index
from danqing.train.progress import Recorder, Row

VERSION = 1
"""Of the saved state."""

CLASS_BATCH = 4
"""Pictures for prior preservation that are drawn at once."""


class StoppedError(Exception):
    """It was stopped before the first step."""


class Trainer:
    """One training.

    Args:
        stopped: whether it is to pause; asked after every step.

    Raises:
        StoppedError: while the model was drawing its own pictures; those that are there stay.
    """

    def __init__(self, training: Training, networks: Networks, index: Index, stopped: Callable[[], bool]) -> None:
        self.training, self.networks, self.index = training, networks, index
        self.recipe = training.recipe()
        self._stopped = stopped
        self._half = DTYPES[self.recipe.precision]
        self.step, self.seconds = 0, 0.0
        self._record = Recorder(training.progress)
        self._painter = Painter(networks, self._half)
        self._prior = self._class_latents()
        self._latents = Latents(networks, self._items(), self.recipe.flip)
        self._order = Order(self._latents.sizes, self.recipe.batch_size, self.recipe.seed)
        self.method = METHODS[self.recipe.method](self.recipe, networks)
        self.optimizing = Optimizing(self.method, networks.device)
        self._load()

    def run(self) -> bool:
        """Train to the end; False when it was stopped before. The state is saved either way.

        Raises:
            DanqingError: `train_diverged`, `train_memory`, `disk_full`, `cannot_write`.
        """
        self.method.train(True)
        if self.step:
            self._say({"event": "resumed"})
        while self.step < self.recipe.steps:
            if self._stopped():
                self._save()
                self._say({"event": "paused"})
                return False
            try:
                self._one()
            except torch.OutOfMemoryError:
                raise DanqingError("train_memory", step=self.step) from None
        self._save()
        return True

    def facts(self) -> Facts:
        """What the result says of its making."""
        tags = Counter(tag.strip() for item in self._latents.items for tag in item.caption.split(",") if tag.strip())
        return Facts(
            steps=self.step,
            pictures=len(self._latents.items),
            class_pictures=len(self._prior.items) if self._prior else 0,
            resolution=self.index.resolution,
            data_sha256=self.index.data_sha256,
            tags=dict(tags),
            seconds=round(self.seconds, 1),
        )

    # -- one step --

    def _one(self) -> None:
        began = time.monotonic()
        count = self.recipe.gradient_accumulation
        rate = self.optimizing.rate
        torch.manual_seed(self.recipe.seed + self.step)
        losses = [self._batch(self.step * count + part) / count for part in range(count)]
        self.optimizing.step()
        self.step += 1
        spent = time.monotonic() - began
        self.seconds += spent
        self._say({"loss": round(sum(losses), 6), "rate": rate, "seconds": round(self.seconds, 3)})
        self._between()
        self._give_way(spent)

    def _batch(self, number: int) -> float:
        """One forward and backward of pictures, and one of the model's own where there are any."""
        rng = random.Random(f"{self.recipe.seed}/{number}/pictures")
        generator = torch.Generator().manual_seed(rng.getrandbits(62))
        chosen = self._order.batch(number)
        texts = [caption_of(self.recipe, self._latents.items[index].caption, rng) for index in chosen]
        loss = self._learn(self._latents, chosen, texts, rng, generator)
        if self._prior is not None:
            count = len(self._prior.items)
            first = number * self.recipe.batch_size
            others = [(first + row) % count for row in range(self.recipe.batch_size)]
            captions = [self._prior.items[index].caption for index in others]
            texts = ["" if rng.random() < self.recipe.caption_dropout else caption for caption in captions]
            loss += self._learn(self._prior, others, texts, rng, generator)
        return loss

    def _learn(
        self,
        source: Latents,
        chosen: Sequence[int],
        texts: Sequence[str],
        rng: random.Random,
        generator: torch.Generator,
    ) -> float:
        device, is_v = self.networks.device, self.networks.is_v
        latents, mask = source.draw(chosen, rng, generator)
        times = torch.randint(0, len(self.networks.alphas), (len(chosen),), generator=generator)
        noise = noise_like(latents, self.recipe.noise_offset, generator).to(device)
        latents, shares = latents.to(device), self.networks.alphas[times].to(device)
        noisy, target = noised(latents, noise, shares), target_of(latents, noise, shares, is_v)
        is_prior = source is self._prior
        with torch.autocast(device.type, self._half, enabled=self._half != torch.float32):
            if is_prior and self.recipe.prior_target == "model":
                target = self.method.before(noisy, times.to(device), texts)
            context = self.method.encode(texts)
            guess = self.method.predict(noisy.to(context.dtype), times.to(device), context)
        weights = weights_of(shares, self.recipe.min_snr_gamma, is_v)
        error = mean_error(guess, target, weights, None if mask is None else mask.to(device))
        loss = error * self.recipe.prior_weight if is_prior else error
        found = float(loss.detach())
        if not math.isfinite(found):
            raise DanqingError("train_diverged", step=self.step + 1)
        if loss.requires_grad:  # captions that do not say an embedding's word change nothing
            self.optimizing.backward(loss / self.recipe.gradient_accumulation)
        return found

    def _between(self) -> None:
        """What is due after a step: samples, a saved state."""
        recipe = self.recipe
        if recipe.sample_every and self.step % recipe.sample_every == 0:
            self._sample()
        if recipe.save_every and self.step % recipe.save_every == 0 and self.step < recipe.steps:
            self._save()
            self._say({"event": "saved"})

    def _give_way(self, spent: float) -> None:
        """Rest, after so many seconds of the device's time, while somebody draws."""
        rest = time.monotonic() + spent * (1 / self.recipe.share - 1)
        while self.training.busy.exists() and time.monotonic() < rest and not self._stopped():
            time.sleep(min(0.05, max(0.0, rest - time.monotonic())))

    def _sample(self) -> None:
        names: list[str] = []
        began = time.monotonic()
        with self.optimizing.averaged():
            for number, content in enumerate(sampled(self._painter, self.method, self.index.resolution)):
                names.append(f"samples/{self.step:06}-{number}.png")
                self._write(self.training.path / names[-1], content)
                self._give_way(time.monotonic() - began)
                began = time.monotonic()
        self._say({"event": "sample", "files": names})

    # -- what is kept --

    def _save(self) -> None:
        """Write the state whole or not at all.

        Raises:
            DanqingError: `disk_full`, `cannot_write`; the state saved before stays.
        """
        state = {
            "version": VERSION,
            "recipe": self.recipe.digest(),
            "step": self.step,
            "seconds": self.seconds,
            "trained": {name: parameter.detach() for name, parameter in self.method.trained.items()},
            "optimizing": self.optimizing.state(),
        }
        save_torch(self.training.checkpoint, state)

    def _load(self) -> None:
        path = self.training.checkpoint
        if not path.is_file():
            return
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            if state["version"] != VERSION or state["recipe"] != self.recipe.digest():
                raise ValueError("it belongs to another recipe or version")
            with torch.no_grad():
                for name, parameter in self.method.trained.items():
                    parameter.copy_(state["trained"][name])
            self.optimizing.load(state["optimizing"])
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError) as error:
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise DanqingError("train_state_broken", reason=reason) from None

    def _say(self, found: dict[str, Any]) -> None:
        row: Row = {"step": self.step, "steps": self.recipe.steps, **found}  # type: ignore[typeddict-item]
        try:
            self._record.append(row)
        except OSError as error:
            raise write_error(self.training.progress, error) from None

    def _write(self, path: Path, content: bytes) -> None:
        try:
            replace_whole(path, content)
        except OSError as error:
            raise write_error(path, error) from None

    # -- data --

    def _items(self) -> list[Item]:
        folder = self.training.pictures
        return [
            Item(folder / row.file, _text(folder / row.file), folder / row.mask if row.mask else None)
            for row in self.index.pictures
        ]

    def _class_latents(self) -> Latents | None:
        """Pictures that the untouched model draws itself; those that are there from before are kept."""
        prompts = class_prompts(self.recipe)
        if not prompts:
            return None
        folder = self.training.class_pictures
        paths = [folder / f"{number:05}.png" for number in range(len(prompts))]
        wanted = [number for number, path in enumerate(paths) if not path.is_file()]
        for start in range(0, len(wanted), CLASS_BATCH):
            if self._stopped():
                self._say({"event": "paused"})
                raise StoppedError
            began = time.monotonic()
            self._draw_class([(number, prompts[number]) for number in wanted[start : start + CLASS_BATCH]])
            self._give_way(time.monotonic() - began)
        return Latents(self.networks, [Item(p, t) for p, t in zip(paths, prompts, strict=True)], flip=False)

    def _draw_class(self, rows: Sequence[tuple[int, str]]) -> None:
        from danqing.train.text import Encoding

        pictures = self._painter.draw(
            Encoding(self.networks.encoder),
            [prompt for _, prompt in rows],
            [self.recipe.seed + 1_000_003 * (number + 1) for number, _ in rows],
            (self.index.resolution, self.index.resolution),
            self.recipe.sample_steps,
            self.recipe.sample_guidance,
        )
        for (number, _), picture in zip(rows, pictures, strict=True):
            self._write(self.training.class_pictures / f"{number:05}.png", png(picture))
        self._say({"event": "note", "note": f"class pictures: {rows[-1][0] + 1} of {self.recipe.class_pictures}"})


def _text(picture: Path) -> str:
    try:
        return picture.with_suffix(".txt").read_text("utf-8").removesuffix("\n")
    except OSError:
        return ""
