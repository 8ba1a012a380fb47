"""Nothing on the way from noise to latent waits for the device.

`FakeTensor` claims to be on a GPU: it has a shape and no numbers, so whoever wants a number from it (`float`, `item`, a
comparison in an `if`) fails, and torch's own rules of devices hold: a tensor of the CPU beside it fails unless it is a single
number.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from danqing.engine import guidance, sampling
from danqing.engine.calls import Conditioning, Denoise, Track
from danqing.engine.conditioning import Conditionings, Moment
from danqing.engine.guidance import Guide
from danqing.engine.noise import PictureNoise
from danqing.engine.samplers import WALKS
from danqing.engine.sampling import ModelView, Prediction, SampleSpec, mask_blend, sample
from danqing.engine.schedules import ModelSigmas, linear_alphas
from danqing.request import GenerateRequest

GPU = torch.device("cuda")
SHAPE = (4, 8, 8)
WAITS = {"DPM adaptive"}
"""Its step size follows the picture."""


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a tensor of the far device, and stands in for the one way in which tensors get there."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def placed(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        if device.type == "cpu" or isinstance(tensor, FakeTensor):
            return tensor
        with mode:
            return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")

    for module in (sampling, guidance):
        monkeypatch.setattr(module, "placed", placed)
    # The finished latent is fetched; that may wait.
    monkeypatch.setattr(FakeTensor, "cpu", lambda self: self, raising=False)
    return lambda *shape: placed(torch.empty(shape), GPU)


def sampler_of(name: str, far: Any, **more: Any) -> torch.Tensor:
    spec = SampleSpec(name, "Automatic", 6, ModelView(ModelSigmas(linear_alphas()), device=GPU), SHAPE, **more)

    def predict(x: torch.Tensor, t: float, sigma: float, call: int, total: int) -> Generator[Any, Any, Prediction]:
        assert x.device.type == "cuda"
        return Prediction(x * 0.9, x * 0.8)
        yield

    walk = sample(spec, predict, PictureNoise("CPU", 1), Track(6))
    with pytest.raises(StopIteration) as stop:
        next(walk)
    return stop.value.value  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", [name for name in WALKS if name not in WAITS])
def test_a_sampler_asks_the_device_for_no_number(name: str, far: Any) -> None:
    assert sampler_of(name, far).device.type == "cuda"
    start = torch.zeros(SHAPE)
    repaint = torch.ones(1, 8, 8)
    resumed = sampler_of(name, far, start_latent=start, denoising=0.7, blend=mask_blend(repaint, start))
    assert resumed.device.type == "cuda"


@pytest.mark.parametrize("name", sorted(WAITS))
def test_who_waits_is_found_out(name: str, far: Any) -> None:
    with pytest.raises(RuntimeError):
        sampler_of(name, far)


@pytest.mark.parametrize("fields", [{}, {"cfg_scale": 1.0}])
def test_guidance_stays_on_the_device(fields: dict[str, Any], far: Any) -> None:
    class Xl:
        in_channels, family = 4, "sdxl"

    cond = Conditioning(far(77, 8), far(16))

    class Fixed(Conditionings):
        def __init__(self) -> None:
            super().__init__([], None, None, {})  # type: ignore[arg-type]

        def at(self, call: int) -> Any:
            return Moment(((cond, 1.0),), cond)

    request = GenerateRequest(prompt="a AND b", **fields)
    guide = Guide(request, Xl(), Fixed(), concat=torch.zeros(5, 16, 16))  # type: ignore[arg-type]
    asked = guide.predict(far(4, 16, 16), 500.0, 3.0, 1, 10)
    call = next(asked)
    assert isinstance(call, Denoise)
    assert all(tensor.device.type == "cuda" for row in call.rows for tensor in (row.x, row.context, row.vector))
    with pytest.raises(StopIteration) as stop:
        asked.send([far(4, *row.x.shape[1:]) for row in call.rows])
    assert stop.value.value.guided.device.type == "cuda"
