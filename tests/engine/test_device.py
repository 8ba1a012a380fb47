"""Devices are told apart by their facts alone, so that cards which are not here can be looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from danqing.engine.device import (
    CPU,
    GIB,
    DeviceFacts,
    attending,
    class_of,
    cpu_features,
    facts_of,
    precision,
    tune,
)

T4 = DeviceFacts("cuda", "Tesla T4", (7, 5), 15 * GIB, torch="2.13.0+cu130 cuda 13.0")
A10G = replace(T4, name="NVIDIA A10G", capability=(8, 6), memory=22 * GIB)
H200 = replace(T4, name="NVIDIA H200", capability=(9, 0), memory=139 * GIB)


@pytest.mark.parametrize(
    ("facts", "name", "first", "halves"),
    [
        (T4, "turing", "efficient", False),
        (replace(T4, name="Tesla V100-SXM2-16GB", capability=(7, 0)), "volta", "efficient", False),
        (replace(T4, name="NVIDIA A100-SXM4-40GB", capability=(8, 0)), "ampere", "flash", False),
        (A10G, "ampere-small", "flash", True),
        (replace(T4, name="NVIDIA L4", capability=(8, 9)), "ada", "flash", True),
        (H200, "hopper", "cudnn", False),
        (replace(T4, name="of the next generation", capability=(12, 1)), "blackwell", "cudnn", False),
    ],
)
def test_the_class_follows_from_the_compute_capability(facts: DeviceFacts, name: str, first: str, halves: bool) -> None:
    row = class_of(facts)
    assert (row.name, row.attention[0], row.half_accumulation) == (name, first, halves)
    assert row.channels_last
    assert precision("auto", row) is torch.float16


def test_a_t4_never_draws_in_bfloat16_of_its_own_accord() -> None:
    row = class_of(T4)
    assert row.slow_bf16
    assert precision("auto", row) is torch.float16
    assert precision("bfloat16", row) is torch.bfloat16  # who asks for it gets it


def test_before_tensor_cores_numbers_stay_whole() -> None:
    row = class_of(replace(T4, name="Tesla P4", capability=(6, 1)))
    assert precision("auto", row) is torch.float32
    assert not row.channels_last
    assert not row.buckets


def test_a_cpu_draws_in_the_format_of_the_references() -> None:
    found = facts_of(torch.device("cpu"))
    assert class_of(found) is CPU
    assert precision("auto", CPU) is torch.float32
    assert found.torch == torch.__version__


def test_the_fingerprint_tells_apart_whatever_compiled_code_depends_on() -> None:
    cpu = DeviceFacts("cpu", "one", features=("avx2", "fma"), torch="2.13.0+cpu")
    others = [T4, A10G, H200, replace(T4, torch="2.14.0+cu130 cuda 13.0"), cpu, replace(cpu, features=("avx2",))]
    assert len({row.fingerprint for row in others}) == len(others)
    # The same card in another machine, and another CPU of the same instructions, may share it.
    assert replace(T4, memory=14 * GIB).fingerprint == T4.fingerprint
    assert replace(cpu, name="two").fingerprint == cpu.fingerprint


def test_features_are_read_from_the_kernels_list(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor : 0\nflags : fpu avx2 fma avx512f\nprocessor : 1\nflags : fpu\n")
    assert cpu_features(path) == ("avx2", "fma", "avx512f")
    path.write_text("Features : fp asimd\n")
    assert cpu_features(path) == ("asimd",)
    assert cpu_features(tmp_path / "absent") == ()


def test_attention_tries_the_kernels_of_the_class() -> None:
    def enabled() -> tuple[bool, ...]:
        found = torch.backends.cuda
        return found.cudnn_sdp_enabled(), found.flash_sdp_enabled(), found.mem_efficient_sdp_enabled()

    usual = enabled()
    with attending(class_of(T4)):
        assert enabled() == (False, False, True)
    with attending(class_of(A10G)):
        assert enabled() == (False, True, True)
    with attending(class_of(H200)):
        assert enabled() == (True, True, True)
    with attending(CPU):
        assert enabled() == usual
    assert enabled() == usual


def test_half_sums_are_asked_for_and_only_where_they_pay() -> None:
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_fp16_accumulation
    try:
        tune(class_of(A10G), half_sums=False)
        tune(class_of(H200), half_sums=True)
        assert matmul.allow_fp16_accumulation == before
        tune(class_of(A10G), half_sums=True)
        assert matmul.allow_fp16_accumulation
    finally:
        matmul.allow_fp16_accumulation = before
