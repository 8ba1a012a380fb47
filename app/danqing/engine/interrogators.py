"""Who looks at a picture and says what is in it, what each needs on disk, and how it is to speak. No torch: doors read this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from danqing.errors import DanqingError
from danqing.library.manifest import read_manifest

FOLDER = ("models", "interrogate")
TRANSFORMERS = ("config.json", "model.safetensors", "tokenizer.json")
"""Files of a network in transformers' layout."""

TAGGER_FILE = "model-resnet_custom_v3.pt"
TAGGER_FOLDERS = (("models", "interrogate", "deepdanbooru"), ("models", "torch_deepdanbooru"))
"""Where DeepDanbooru may lie; the second is the WebUI's."""

Unit = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Interrogator:
    """`name`: as the API says it. `label`: as people know it."""

    name: str
    label: str


ROWS: tuple[Interrogator, ...] = (Interrogator("clip", "CLIP"), Interrogator("deepdanbooru", "DeepBooru"))


class Manner(BaseModel):
    """How a caption is written. Lengths are in tokens; `limit`: most entries read from a list, 0 for all.

    `skip`: lists left out. `ranks`: each word with how sure the network is. `keep`: the networks stay in memory.
    `threshold`: least probability of a tag. `by_name`: tags in the alphabet's order, else the surest first. `spaces`: for the
    underscores in tags. `escape`: brackets get a backslash, so that they are no emphasis. `left_out`: tags, between commas.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    beams: Annotated[int, Field(ge=1, le=16)] = 1
    shortest: Annotated[int, Field(ge=1, le=128)] = 24
    longest: Annotated[int, Field(ge=1, le=256)] = 48
    limit: Annotated[int, Field(ge=0)] = 1500
    skip: tuple[str, ...] = ()
    ranks: bool = False
    keep: bool = False
    threshold: Unit = 0.5
    by_name: bool = True
    spaces: bool = True
    escape: bool = True
    left_out: str = ""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Manner:
        """From the WebUI's options (spec 20)."""
        shortest = int(options["interrogate_clip_min_length"])
        return cls(
            beams=options["interrogate_clip_num_beams"],
            shortest=shortest,
            longest=max(shortest, int(options["interrogate_clip_max_length"])),
            limit=max(0, int(options["interrogate_clip_dict_limit"])),
            skip=tuple(options["interrogate_clip_skip_categories"]),
            ranks=options["interrogate_return_ranks"],
            keep=options["interrogate_keep_models_in_memory"],
            threshold=options["interrogate_deepbooru_score_threshold"],
            by_name=options["deepbooru_sort_alpha"],
            spaces=options["deepbooru_use_spaces"],
            escape=options["deepbooru_escape"],
            left_out=options["deepbooru_filter_tags"],
        )


def check(data: Path, name: str) -> None:
    """Whether the interrogator's networks are on disk.

    Raises:
        DanqingError: `interrogator_missing`, with the files and how to fetch them.
    """
    tagger(data) if name == "deepdanbooru" else network(data, "blip")


def network(data: Path, part: str) -> Path:
    """The folder of a network in transformers' layout.

    Raises:
        DanqingError: `interrogator_missing`.
    """
    folder = data.joinpath(*FOLDER, part)
    absent = [file for file in TRANSFORMERS if not (folder / file).is_file()]
    if absent:
        raise _missing(data, "CLIP", absent, folder)
    return folder


def tagger(data: Path) -> Path:
    """DeepDanbooru's file.

    Raises:
        DanqingError: `interrogator_missing`.
    """
    for folder in TAGGER_FOLDERS:
        if (path := data.joinpath(*folder, TAGGER_FILE)).is_file():
            return path
    raise _missing(data, "DeepBooru", [TAGGER_FILE], data.joinpath(*TAGGER_FOLDERS[0]))


def _missing(data: Path, label: str, files: list[str], folder: Path) -> DanqingError:
    first = (folder / files[0]).relative_to(data).as_posix()
    groups = [row.groups[-1] for row in read_manifest().weights if row.file == first]
    command = f"python -m danqing.library.fetch --data {data} --accept-licences {groups[0]}" if groups else "-"
    return DanqingError("interrogator_missing", name=label, files=", ".join(files), folder=str(folder), command=command)
