"""LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685) through PEFT, saved in kohya's layout."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from danqing.library.tensors import WORDS, Row, write_safetensors
from danqing.train.methods.base import Facts, Method
from danqing.train.text import Encoding

ADAPTER = "danqing"

UNET = r"(?:.*\.)?(?:attentions\..*(?:to_q|to_k|to_v|to_out\.0|ff\.net\.0\.proj|ff\.net\.2|proj_in|proj_out))"
CONVOLUTIONS = r"(?:.*\.)?(?:resnets\.\d+\.(?:conv1|conv2|conv_shortcut|time_emb_proj)|(?:down|up)samplers\.0\.conv)"
TEXT = r"(?:.*\.)?(?:q_proj|k_proj|v_proj|out_proj|mlp\.fc1|mlp\.fc2)"
"""What kohya's trainer puts matrices beside: attention and feed-forward layers, and with a `conv_rank` the convolutions."""

PREFIXES = {"unet": "lora_unet_", "text": "lora_te_text_model_"}


def unet_targets(recipe_conv_rank: int) -> str:
    """A pattern of the UNet's modules."""
    return f"{UNET}|{CONVOLUTIONS}" if recipe_conv_rank else UNET


class Lora(Method):
    """Matrices beside the UNet's layers, and the text encoder's where the recipe says so."""

    kind = "lora"

    def attach(self) -> None:
        self._parts: dict[str, Any] = {"unet": self.networks.unet}
        self._inject(self.networks.unet, unet_targets(self.recipe.conv_rank))
        if self.recipe.train_text_encoder:
            self._parts["text"] = self.networks.text
            self._inject(self.networks.text, TEXT)
            self.encode = Encoding(self.networks.encoder, frozen=False)
        for part, module in self._parts.items():
            found = {name: p for name, p in module.named_parameters() if f".{ADAPTER}." in name}
            self.trained.update({f"{part}.{name}": parameter for name, parameter in found.items()})

    @contextmanager
    def untouched(self) -> Iterator[None]:
        layers = self._layers
        for layer in layers:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in layers:
                layer.enable_adapters(True)

    @cached_property
    def _layers(self) -> list[Any]:
        from peft.tuners.tuners_utils import BaseTunerLayer

        return [m for part in self._parts.values() for m in part.modules() if isinstance(m, BaseTunerLayer)]

    def _inject(self, module: nn.Module, pattern: str) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        conv = self.recipe.conv_rank
        convs = {
            name: conv
            for name, layer in module.named_modules()
            if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1) and re.fullmatch(pattern, name)
        }
        config = LoraConfig(
            r=self.recipe.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type] # any number will do
            target_modules=pattern,
            rank_pattern=convs if conv else {},
            alpha_pattern=dict.fromkeys(convs, self._conv_alpha) if conv else {},
            init_lora_weights=True,
        )
        # The up matrices start at zero, the down matrices by the seed: every run of a recipe starts alike.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            inject_adapter_in_model(config, module, ADAPTER)

    @property
    def alpha(self) -> float:
        return self.recipe.alpha or self.recipe.rank

    @property
    def _conv_alpha(self) -> float:
        """Convolutions are scaled as the other layers are."""
        return self.alpha * self.recipe.conv_rank / self.recipe.rank

    def groups(self) -> list[dict[str, Any]]:
        """By network, and with LoRA+ the up matrices apart."""
        found: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.trained.items():
            rate = self.recipe.learning_rate if name.startswith("unet.") else self.recipe.text_rate
            rate *= self.recipe.lr_plus_ratio if ".lora_B." in name else 1.0
            found.setdefault(rate, []).append(parameter)
        return [{"params": parameters, "lr": rate} for rate, parameters in found.items()]

    def save(self, path: Path, facts: Facts) -> None:
        tensors = dict(self.tensors())
        rows = [Row(key, WORDS[t.dtype], tuple(t.shape), lambda t=t: t) for key, t in tensors.items()]  # type: ignore[misc]
        write_safetensors(path, rows, self._metadata(facts) | {"sshs_model_hash": digest(tensors)})

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """In kohya's names, float16."""
        for name, parameter in sorted(self.trained.items()):
            part, _, path = name.partition(".")
            stem, side = re.fullmatch(rf"(.+)\.lora_([AB])\.{ADAPTER}\.weight", path).groups()  # type: ignore[union-attr]
            key = PREFIXES[part] + stem.removeprefix("text_model.").replace(".", "_")
            value = parameter.detach().cpu().half().contiguous()
            yield f"{key}.lora_{'down' if side == 'A' else 'up'}.weight", value
            if side == "A":
                conv = value.dim() == 4 and value.shape[2:] != (1, 1)
                yield f"{key}.alpha", torch.tensor(self._conv_alpha if conv else self.alpha).half()

    def _metadata(self, facts: Facts) -> dict[str, str]:
        recipe, model = self.recipe, self.networks.model
        pairs: dict[str, object] = {
            "ss_network_module": "networks.lora",
            "ss_network_dim": recipe.rank,
            "ss_network_alpha": self.alpha,
            "ss_output_name": recipe.name,
            "ss_base_model_version": "sd_v1" if model.family == "sd1" else "sd_v2",
            "ss_v2": model.family == "sd2",
            "ss_sd_model_name": model.checkpoint.filename.name,
            "ss_new_sd_model_hash": model.sha256,
            "ss_learning_rate": recipe.learning_rate,
            "ss_unet_lr": recipe.learning_rate,
            "ss_text_encoder_lr": recipe.text_rate if recipe.train_text_encoder else None,
            "ss_optimizer": recipe.optimizer,
            "ss_lr_scheduler": recipe.schedule,
            "ss_steps": facts.steps,
            "ss_max_train_steps": recipe.steps,
            "ss_seed": recipe.seed,
            "ss_mixed_precision": "no" if recipe.precision == "fp32" else recipe.precision,
            "ss_gradient_checkpointing": recipe.gradient_checkpointing,
            "ss_num_train_images": facts.pictures,
            "ss_num_reg_images": facts.class_pictures,
            "ss_total_batch_size": recipe.batch_size * recipe.gradient_accumulation,
            "ss_resolution": f"({facts.resolution}, {facts.resolution})",
            "ss_enable_bucket": recipe.buckets,
            "ss_min_snr_gamma": recipe.min_snr_gamma or None,
            "ss_noise_offset": recipe.noise_offset or None,
            "ss_caption_dropout_rate": recipe.caption_dropout,
            "ss_tag_frequency": json.dumps({"data": dict(facts.tags)}, ensure_ascii=False),
            "modelspec.title": recipe.name,
            "modelspec.architecture": f"stable-diffusion-{model.family.replace('sd', 'v')}/lora",
            "modelspec.trigger_phrase": recipe.word,
            "danqing.recipe": recipe.told(),
            "danqing.data_sha256": facts.data_sha256,
        }
        if recipe.conv_rank:
            pairs["ss_network_args"] = json.dumps({"conv_dim": recipe.conv_rank, "conv_alpha": self._conv_alpha})
        return {key: str(value) for key, value in pairs.items()}


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """sha256 of the tensors' bytes in the order of the file, as kohya's trainer counts a model's hash."""
    found = hashlib.sha256()
    for value in tensors.values():
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
