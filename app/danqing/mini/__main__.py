"""`python -m danqing.mini`: train, export, judge and look at the miniature model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    """Run one subcommand."""
    options = _parser().parse_args()
    work = {
        "train": _train,
        "control": _control,
        "render": _render,
        "export": _export,
        "judge": _judge,
        "sheet": _sheet,
    }
    work[options.command](options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m danqing.mini", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train all stages (or one)")
    train.add_argument("--out", type=Path, required=True, help="folder of checkpoints and cached latents")
    train.add_argument("--minutes", type=float, default=110)
    train.add_argument("--resume", action="store_true", help="go on with what OUT holds")
    train.add_argument("--stage", default="", choices=("", "vae", "text", "unet", "decoder"))
    control = commands.add_parser("control", help="train a ControlNet beside the shipped model")
    control.add_argument("--kind", required=True, choices=("canny", "depth", "pose"))
    control.add_argument("--out", type=Path, required=True, help="folder of the checkpoint and of the finished file")
    control.add_argument("--minutes", type=float, default=25)
    control.add_argument(
        "--resume", action="store_true", help="go on with what OUT holds, or else with the shipped net"
    )
    render = commands.add_parser("render", help="a contact sheet of training data")
    render.add_argument("--png", type=Path, required=True)
    export = commands.add_parser("export", help="write the single file and its YAML from a training folder")
    export.add_argument("--out", type=Path, required=True)
    export.add_argument("--to", type=Path, help="folder (default: the package's)")
    judge = commands.add_parser("judge", help="measure a single file and write its JSON")
    judge.add_argument("--weights", type=Path, help="single file (default: the shipped one)")
    judge.add_argument("--count", type=int, default=96, help="pictures of the main tests")
    judge.add_argument("--quick", action="store_true", help="the main tests only, nothing written")
    sheet = commands.add_parser("sheet", help="a contact sheet of what the model draws")
    sheet.add_argument("--weights", type=Path)
    sheet.add_argument("--png", type=Path, required=True)
    sheet.add_argument("--seed", type=int, default=1)
    return parser


def _train(options: argparse.Namespace) -> None:
    from danqing.mini.train import train

    train(options.out, options.minutes, options.resume, options.stage)


def _control(options: argparse.Namespace) -> None:
    from danqing.mini.train_control import train_control

    train_control(options.kind, options.out, options.minutes, options.resume)


def _render(options: argparse.Namespace) -> None:
    from danqing.mini.sheet import data_sheet

    data_sheet(options.png)


def _export(options: argparse.Namespace) -> None:
    from danqing.mini.export import WEIGHTS, export

    folder = options.to or WEIGHTS
    figures = folder / "danqing-mini.json"
    print(export(options.out, folder, json.loads(figures.read_text("utf-8")) if figures.exists() else None))


def _judge(options: argparse.Namespace) -> None:
    import torch

    from danqing.mini.export import checkpoint, load_pipeline
    from danqing.mini.figures import ask, measure, place_questions, questions

    # On a busy machine two threads wait for each other most of the time.
    torch.set_num_threads(1)
    path = options.weights or checkpoint()
    pipeline = load_pipeline(path)
    if options.quick:
        for stage, held_out in (("one", True), ("pairs", False), ("people", False), ("things", False)):
            print(stage, ask(pipeline, questions(stage, options.count, held_out)), flush=True)
        print("places", ask(pipeline, place_questions(options.count)), flush=True)
        return
    table = measure(pipeline, options.count)
    path.with_suffix(".json").write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _sheet(options: argparse.Namespace) -> None:
    from danqing.mini.export import load_pipeline
    from danqing.mini.figures import draw
    from danqing.mini.sheet import GALLERY, grid

    pictures = draw(load_pipeline(options.weights), list(GALLERY), seed=options.seed)
    grid(pictures).save(options.png)


if __name__ == "__main__":
    main()
