"""`danqing library …`: what is on disk, merging and converting, taking over a WebUI's folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from danqing.errors import DanqingError, environment_language
from danqing.library.index import Checkpoint, Library

if TYPE_CHECKING:
    from danqing.library.importing import Imported
    from danqing.library.merge import Source

app = typer.Typer(
    name="library",
    help="Models on disk.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DataFolder = Annotated[Path, typer.Option("--data", help="Folder of models, pictures and settings.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file of this name.")]
Discard = Annotated[str, typer.Option(help="Regular expression: leave out tensors in whose names it is found.")]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="File to write; default: a name made from the inputs.")
]


class Method(StrEnum):
    """How checkpoints are merged."""

    SUM = "weighted-sum"
    DIFFERENCE = "add-difference"
    NONE = "no-interpolation"


METHODS: dict[Method, Literal["weighted sum", "add difference", "no interpolation"]] = {
    Method.SUM: "weighted sum",
    Method.DIFFERENCE: "add difference",
    Method.NONE: "no interpolation",
}


class Precision(StrEnum):
    """The number format that is written."""

    KEEP = "keep"
    FP16 = "fp16"
    BF16 = "bf16"
    FP32 = "fp32"


class Config(StrEnum):
    """Whose YAML is copied."""

    ANY = "any"
    B = "B"
    C = "C"
    NONE = "none"


class Kept(StrEnum):
    """What becomes of the running means (EMA) of the UNet's weights."""

    ALL = "all"
    NO_EMA = "no-ema"
    EMA_ONLY = "ema-only"


def say(en: str, zh: str) -> None:
    """One line in the reader's language."""
    typer.echo(zh if environment_language() == "zh" else en)


@app.command("list")
def list_models(data: DataFolder = Path("data"), as_json: AsJson = False) -> None:
    """Checkpoints and VAEs, in the order of the page."""
    from danqing.library.vaes import vae_files

    library = Library(data)
    found = library.checkpoints()
    vaes = vae_files(data, library)
    if as_json:
        rows = [
            {"title": c.title, "sha256": c.sha256, "filename": str(c.filename), "size": c.native_size} for c in found
        ]
        files = {name: str(path) for name, path in vaes.items()}
        typer.echo(json.dumps({"checkpoints": rows, "vaes": files}, ensure_ascii=False, indent=1))
        return
    for checkpoint in found:
        typer.echo(checkpoint.title)
    for name in vaes:
        typer.echo(f"VAE {name}")


@app.command("hash")
def hash_models(
    names: Annotated[list[str] | None, typer.Argument(help="Checkpoints; all when none is named.")] = None,
    data: DataFolder = Path("data"),
) -> None:
    """The sha256 of checkpoints, computed once and kept."""
    library = Library(data)
    chosen = [library.closest(name) for name in names] if names else library.checkpoints()
    for checkpoint in chosen:
        typer.echo(f"{library.hashed(checkpoint).sha256}  {checkpoint.name}")


@app.command()
def merge(
    primary: Annotated[str, typer.Argument(help="Checkpoint A: a file, or its title, name or hash.")],
    secondary: Annotated[str | None, typer.Argument(help="Checkpoint B.")] = None,
    tertiary: Annotated[str | None, typer.Argument(help="Checkpoint C.")] = None,
    method: Annotated[Method, typer.Option(help="A·(1−M) + B·M, A + (B−C)·M, or A as it is.")] = Method.SUM,
    multiplier: Annotated[float, typer.Option("-m", "--multiplier", min=-10, max=10, help="M.")] = 0.3,
    output: Output = None,
    precision: Annotated[Precision, typer.Option(help="Number format to write.")] = Precision.KEEP,
    vae: Annotated[str, typer.Option(help="VAE to bake in: a file, or its name in models/VAE.")] = "",
    config: Annotated[Config, typer.Option(help="Whose YAML is copied.")] = Config.ANY,
    discard: Discard = "",
    recipe: Annotated[bool, typer.Option(help="Write the recipe into the metadata.")] = True,
    copy_metadata: Annotated[bool, typer.Option(help="Copy the metadata of the inputs.")] = True,
    metadata: Annotated[str, typer.Option(help="More metadata: one JSON object of texts.")] = "",
    overwrite: Overwrite = False,
    data: DataFolder = Path("data"),
) -> None:
    """Merge checkpoints into a new .safetensors file."""
    from danqing.library import merge as merging

    library = Library(data)
    sources = [_source(library, name) if name else None for name in (primary, secondary, tertiary)]
    assert sources[0] is not None
    made = merging.Recipe(
        method=METHODS[method],
        primary=sources[0],
        secondary=sources[1],
        tertiary=sources[2],
        multiplier=multiplier,
        precision=precision.value,
        vae=_vae(data, library, vae),
        discard=discard,
        config_from=config.value,
        copy_metadata=copy_metadata,
        record=recipe,
        metadata=_texts(metadata),
    )
    target = _target(output, made.default_name, library)
    merging.merge(made, target, overwrite)
    say(f"Written: {target}", f"已写入：{target}")


@app.command()
def convert(
    model: Annotated[str, typer.Argument(help="Checkpoint: a file, or its title, name or hash.")],
    output: Output = None,
    precision: Annotated[Precision, typer.Option(help="Number format to write.")] = Precision.KEEP,
    kept: Annotated[Kept, typer.Option("--ema", help="What becomes of the running means.")] = Kept.NO_EMA,
    prune: Annotated[bool, typer.Option(help="Leave out what no picture is drawn with.")] = True,
    discard: Discard = "",
    overwrite: Overwrite = False,
    data: DataFolder = Path("data"),
) -> None:
    """Write a checkpoint as .safetensors, in another precision or without what drawing has no use for."""
    from danqing.library import convert as converting

    library = Library(data)
    path = _checkpoint(library, model).filename
    target = _target(output, path.stem, library) if output or path.is_dir() else path.with_suffix(".safetensors")
    converting.convert(path, target, precision.value, kept.value, prune, discard, overwrite)
    say(f"Written: {target}", f"已写入：{target}")


@app.command("import")
def import_webui(
    folder: Annotated[Path, typer.Argument(help="Folder of a WebUI.")],
    data: DataFolder = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Take over a WebUI's models, embeddings, styles, pictures and options. Files are linked, none is copied."""
    from danqing.library import importing

    done = importing.import_webui(folder, data.resolve())
    if as_json:
        typer.echo(json.dumps(asdict(done), ensure_ascii=False, indent=1))
        return
    _report(done)


def _report(done: Imported) -> None:
    for place, count in sorted(done.linked.items()):
        say(f"{count} files linked into {place}", f"已将 {count} 个文件链接到 {place}")
    if done.options:
        say(f"Options taken over: {', '.join(done.options)}", f"已采用的设置：{', '.join(done.options)}")
    for path in done.present:
        say(f"Left out, for a file of this name is there already: {path}", f"已有同名文件，未链接：{path}")
    if done.left:
        say(f"Not understood and left alone: {', '.join(done.left)}", f"不认识、未处理：{', '.join(done.left)}")
    if done.options_left:
        names = ", ".join(done.options_left)
        say(f"Options that mean nothing here: {names}", f"在此无意义的设置：{names}")


def _checkpoint(library: Library, name: str) -> Checkpoint:
    path = Path(name)
    if path.suffix and path.is_file():
        config = path.with_suffix(".yaml")
        return Checkpoint(path.name, path.resolve(), None, config if config.is_file() else None, 512, "")
    return library.closest(name)


def _source(library: Library, name: str) -> Source:
    from danqing.library.merge import Source

    checkpoint = library.hashed(_checkpoint(library, name))
    return Source(checkpoint.filename, checkpoint.name, checkpoint.sha256 or "", checkpoint.config)


def _vae(data: Path, library: Library, name: str) -> Path | None:
    from danqing.library.vaes import vae_files

    if not name or Path(name).is_file():
        return Path(name) if name else None
    files = vae_files(data, library)
    if name not in files:
        known = ", ".join(files)
        raise DanqingError("unknown_model", name=name[:200], folder=str(data / "models" / "VAE"), known=known)
    return files[name]


def _texts(text: str) -> dict[str, str]:
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise DanqingError("invalid_field", field="--metadata", reason="one JSON object of texts")
    return found


def _target(output: Path | None, name: str, library: Library) -> Path:
    """The file to write: a bare name lies among the checkpoints."""
    path = output if output is not None else library.folder / f"{name}.safetensors"
    return path if path.suffix == ".safetensors" else path.with_name(f"{path.name}.safetensors")
