"""What a GPU does: Danqing eager and compiled against diffusers eager and compiled, on the same card in the same run.

Nothing is downloaded: the networks have SD 1.5's shapes and random weights. `--device cpu --small` runs the same code on a CPU
with a tiny network, for a look whether it runs; those figures mean nothing. On a GPU the tables go to docs/benchmarks-gpu.md.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.adapters import write_lora
from bench.gpu_network import Place, peak_memory, peak_of, place_of, random_control, random_model, step_tflop, wait
from bench.overhead import OneModel
from bench.report import Cell, machine, markdown, show
from danqing.engine import compile_unet, device, plans, preview, vae
from danqing.engine.build import choose_device
from danqing.engine.calls import Adapter, Decode, Denoise, Row
from danqing.engine.compile_store import Store, Want
from danqing.engine.compile_worker import VARIANTS, compiled_into
from danqing.engine.compiled import CompiledNetworks
from danqing.engine.device_graphs import CudaRecorder, Graphs
from danqing.engine.engine import Engine
from danqing.engine.models import Model
from danqing.engine.runner import Runner
from danqing.engine.scheduler import Kind, Limits
from danqing.engine.studio import Studio
from danqing.library.index import Library
from danqing.request import GenerateRequest

ROOT = Path(__file__).resolve().parent.parent
USERS = (1, 4, 8)
PREVIEW_SECONDS = 0.4
Table = list[dict[str, Cell]]


class Rig:
    """Danqing's engine with one model that is always there."""

    def __init__(self, place: Place, model: Model, runner: Runner, data: Path) -> None:
        studio = Studio.of(data, Library(data))
        self.place, self.model, self.runner = place, model, runner
        self.engine = Engine(
            runner,
            OneModel(model),
            self._hear,
            make_plan=lambda request, index, track: plans.plan(request, index, studio.fresh(), track),
            measure=plans.measure,
            limits=Limits(rows=2 * max(*place.batches, *USERS), denoise_budget=2**31, decode_budget=2**20, gain=10.0),
        )
        self.ended: dict[str, float] = {}

    def _hear(self, message: Any) -> None:
        body = message.body
        if body["event"] == "failed":
            raise RuntimeError(str(body["error"]))
        if body["event"] == "done":
            self.ended[body["job"]] = time.perf_counter()

    def draw(self, jobs: int, steps: int) -> tuple[float, float]:
        """Seconds until all pictures are there, and seconds of one UNet forward."""
        place, before = self.place, dict(self.engine.counters)
        began = time.perf_counter()
        for number in range(jobs):
            fields = {"prompt": f"number {number}", "seed": number, "steps": steps, "sampler": "DPM++ 2M"}
            self.engine.submit(str(number), GenerateRequest(width=place.side, height=place.side, **fields))
        self.engine.finish()
        wait(place.device)
        self.engine._note()
        seconds = time.perf_counter() - began
        done = {name: self.engine.counters[name] - before[name] for name in ("forwards", "forward_seconds")}
        return seconds, done["forward_seconds"] / max(1.0, done["forwards"])

    def forward(self, side: int, control: Any = None, adapters: Any = ()) -> Callable[[], object]:
        """Runs one step of one picture with guidance."""
        config, where = self.model.unet.config, self.place.device
        hints = () if control is None else (control,)
        x = torch.randn(4, side // 8, side // 8, device=where)
        context = torch.randn(77, config.cross_attention_dim, device=where)
        rows = [Row(x, 500.0, context, control=hints) for _ in range(2)]
        call = Denoise(self.model, tuple(rows), adapters)

        def run() -> None:
            self.runner.run(Kind.DENOISE, [(call, rows)])
            wait(where)

        return run


def best(run: Callable[[], object], repeats: int) -> float:
    """Seconds: the median after one run that does not count."""
    run()
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def rates(
    place: Place, side: str, batch: int, per_picture: float, forward: float, tflop: float, card: str
) -> dict[str, Cell]:
    """A row of the first table. forward: seconds of a step of the whole batch."""
    achieved, peak = tflop * batch / forward, peak_of(card)
    return {
        "side": side,
        "batch": batch,
        "it/s": 1 / forward,
        "pictures x it/s": batch / forward,
        "s a picture": per_picture,
        "TFLOP/s": achieved,
        "share of the peak %": None if peak is None else 100 * achieved / peak,
    }


def ours(rig: Rig, side: str, tflop: float, card: str) -> Table:
    """Danqing's rows, for every batch."""
    place = rig.place
    rows = []
    for batch in place.batches:
        rig.draw(batch, 2)
        seconds, forward = rig.draw(batch, place.steps)
        rows.append(rates(place, side, batch, seconds / batch, forward, tflop, card))
    return rows


def theirs(place: Place, model: Model, side: str, tflop: float, card: str) -> Table:
    """diffusers' pipeline on the same networks, embeddings given so that neither side encodes text."""
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    pipeline: Any = StableDiffusionPipeline(
        vae=model.vae,
        text_encoder=None,
        tokenizer=None,
        unet=model.unet,
        scheduler=DPMSolverMultistepScheduler(steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    width = model.unet.config.cross_attention_dim
    rows = []
    for batch in place.batches:
        embeddings = torch.randn(batch, 77, width, device=place.device, dtype=place.dtype)

        def draw(steps: int, kind: str, given: torch.Tensor = embeddings) -> float:
            began = time.perf_counter()
            pipeline(
                prompt_embeds=given,
                negative_prompt_embeds=given,
                height=place.side,
                width=place.side,
                num_inference_steps=steps,
                output_type=kind,
            )
            wait(place.device)
            return time.perf_counter() - began

        draw(2, "pt")
        whole = draw(place.steps, "pt")
        # Two lengths, so that what a call costs once is not counted as steps.
        short, long = draw(1, "latent"), draw(1 + place.steps, "latent")
        forward = max(1e-9, (long - short) / place.steps)
        rows.append(rates(place, side, batch, whole / batch, forward, tflop, card))
    return rows


def compile_ours(place: Place, model: Model, store: Store) -> tuple[CompiledNetworks, Table]:
    """Compile both variants as the box does, and read them again as the engine does at its next start."""
    table: Table = []
    architecture = compile_unet.architecture_of(model.unet)
    for variant in VARIANTS:
        want = Want(architecture, variant, place.side // 8, place.side // 8)
        with store.making(want) as half:
            answer = compiled_into(half, model.unet, want, place.row.buckets if place.device.type == "cuda" else ())
            store.publish(half, want, **answer)
        table.append(
            {
                "network": variant,
                "compile s": answer["seconds"],
                "gain": answer["gain"],
                "gain with graphs": answer["graphs"],
                "largest difference": answer["difference"],
            }
        )
    graphs = Graphs(place.row.buckets, CudaRecorder()) if place.device.type == "cuda" else None
    compiled = CompiledNetworks(store, graphs)
    began = time.perf_counter()
    while len(compiled.shelf.ready) + len(compiled.shelf.unused) < len(VARIANTS):
        compiled.tend([model])
        time.sleep(0.01)
    table.append({"network": "both, read at the next start", "compile s": time.perf_counter() - began})
    return compiled, table


def costs(rig: Rig, data: Path) -> Table:
    """What a ControlNet, a LoRA and previews add to a step of one picture."""
    place, model = rig.place, rig.model
    path = data / "models/Lora/big.safetensors"
    write_lora(model, path)
    adapters = (Adapter("lora", path, 0.8, 0.8),)
    plain = best(rig.forward(place.side), place.repeats)
    began = time.perf_counter()
    rig.forward(place.side, adapters=adapters)()
    first = time.perf_counter() - began - plain
    lora = best(rig.forward(place.side, adapters=adapters), place.repeats)
    other = (Adapter("lora", path, 0.8, 0.5),)
    began = time.perf_counter()
    rig.forward(place.side, adapters=other)()
    switch = time.perf_counter() - began - lora
    control = best(rig.forward(place.side, control=random_control(model, place)), place.repeats)
    latent = torch.randn(4, place.side // 8, place.side // 8, device=place.device)
    shown = best(lambda: preview.png(latent, model.latent_rgb), place.repeats)
    return [
        {"what": "a step of one picture", "ms": 1000 * plain},
        {"what": "with one ControlNet", "ms": 1000 * control, "more %": 100 * (control / plain - 1)},
        {"what": "with a LoRA on every layer", "ms": 1000 * lora, "more %": 100 * (lora / plain - 1)},
        {"what": "a LoRA's first use", "ms": 1000 * max(0.0, first)},
        {"what": "another strength of it", "ms": 1000 * max(0.0, switch)},
        {
            "what": f"a preview every {PREVIEW_SECONDS} s",
            "ms": 1000 * shown,
            "more %": 100 * shown / PREVIEW_SECONDS,
        },
    ]


@torch.inference_mode()
def sizes(rig: Rig) -> Table:
    """Time and memory of larger pictures: one step, and the VAE's decoding."""
    place, rows = rig.place, []
    for side in (place.side, *place.sides):
        step = best(rig.forward(side), place.repeats)
        memory = peak_memory(place.device, rig.forward(side))
        call = Decode(rig.model, torch.randn(4, side // 8, side // 8) * 0.1)
        decode = best(lambda call=call: vae.decode([call], place.device), place.repeats)  # type: ignore[misc]
        decoding = peak_memory(place.device, lambda call=call: vae.decode([call], place.device))  # type: ignore[misc]
        rows.append(
            {"side": side, "step ms": 1000 * step, "step GB": memory, "decode ms": 1000 * decode, "decode GB": decoding}
        )
    return rows


def users(rig: Rig) -> Table:
    """One picture each for several people at once."""
    rows: Table = []
    for jobs in USERS:
        rig.ended.clear()
        began = time.perf_counter()
        seconds, _ = rig.draw(jobs, rig.place.steps)
        waits = [at - began for at in rig.ended.values()]
        rows.append({"at once": jobs, "pictures/s": jobs / seconds, "last one waited s": max(waits)})
    return rows


def first_picture(name: str, small: bool) -> float:
    """Seconds from the start of a fresh process to its first picture."""
    command = [sys.executable, "-m", "bench.gpu", "--device", name, "--first", *(["--small"] if small else [])]
    began = time.perf_counter()
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def run(place: Place, card: str, options: argparse.Namespace, data: Path) -> dict[str, Table]:
    """Every table."""
    tflop = step_tflop(place, place.side)
    model = random_model(place)
    rig = Rig(place, model, Runner(place.device), data)
    tables = {"throughput": ours(rig, "danqing", tflop, card)}
    tables["throughput"] += theirs(place, model, "diffusers", tflop, card)
    if options.compile:
        store = Store([data / "compiled"], "bench")
        compiled, tables["compile"] = compile_ours(place, model, store)
        fast = Rig(place, model, Runner(place.device, compiled=compiled), data)
        tables["throughput"] += ours(fast, "danqing, compiled", tflop, card)
        rig = fast
    tables |= {"costs": costs(rig, data), "sizes": sizes(rig), "users": users(rig)}
    if options.compile and not options.small:
        model.unet = torch.compile(model.unet, mode="reduce-overhead", fullgraph=True)
        tables["throughput"] += theirs(place, model, "diffusers + compile", tflop, card)
    if options.start:
        tables["start"] = [
            {"what": "process start to first picture", "s": first_picture(options.device, options.small)}
        ]
    return tables


TITLES = {
    "throughput": "Throughput: 20 steps, guidance, DPM++ 2M",
    "compile": "Compiling",
    "costs": "What a step costs more",
    "sizes": "Larger pictures",
    "users": "Several people at once",
    "start": "Start",
}


def publish(card: str, tables: dict[str, Table]) -> None:
    """Write docs/benchmarks-gpu.md and its Chinese sister: figures of a card, with the command that gives them."""
    body = "".join(f"\n## {TITLES[name]}\n\n{markdown(rows)}" for name, rows in tables.items())
    facts = "\n" + ", ".join(f"{key} {value}" for key, value in machine().items()) + "\n"
    heads = {
        "benchmarks-gpu.md": f"# Figures of a GPU\n\n{card}. `.venv/bin/python -m bench.gpu`. SD 1.5's shapes, random weights.\n",
        "benchmarks-gpu.zh-CN.md": f"# 显卡实测\n\n{card}。`.venv/bin/python -m bench.gpu`，SD 1.5 的形状，随机权重。\n",
    }
    for name, head in heads.items():
        (ROOT / "docs" / name).write_text(head + body + facts, "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--small", action="store_true", help="a tiny network: for a look whether everything runs")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="compile too; as usual on a GPU only")
    parser.add_argument("--start", action=argparse.BooleanOptionalAction, default=True, help="time a fresh process too")
    parser.add_argument("--first", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    where = choose_device(options.device)
    facts = device.facts_of(where)
    row = device.class_of(facts)
    place = place_of(where, device.precision("auto", row), row, small=options.small)
    if options.compile is None:
        options.compile = where.type == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        if options.first:
            Rig(place, random_model(place), Runner(where), Path(folder)).draw(1, place.steps)
            return
        tables = run(place, facts.name, options, Path(folder))
    for name, rows in tables.items():
        if name != "throughput":
            print(f"\n### {TITLES[name]}\n\n{markdown(rows)}", end="")
    notes = ["A CPU and a tiny network: these figures only show that the code runs."] if options.small else []
    show("gpu", f"{facts.name}: {TITLES['throughput']}", tables["throughput"], notes, tables=tables, card=facts.name)
    if where.type == "cuda" and not options.small:
        publish(facts.name, tables)


if __name__ == "__main__":
    main()
