"""The model manifest: which weights there are, how to know them and where they come from.

A TOML file of `[[weights]]` tables. Nothing here fetches: the format and its checks only.

    [[weights]]
    name = "danqing-mini"                      # unique, what people type
    kind = "checkpoint"                        # a `Kind`
    file = "models/Stable-diffusion/x.safetensors"   # below the data folder
    bytes = 27000000
    sha256 = "64 hex digits"
    license = "Apache-2.0"
    groups = ["base"]                          # what is fetched together
    [[weights.sources]]                        # tried in order; none when the file ships with the package
    type = "hub"                               # hub: repo, path, revision; mirror and https: url; s3: bucket, key
    repo = "owner/name"
    path = "x.safetensors"
"""

from __future__ import annotations

import tomllib
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from danqing.errors import DanqingError

SHIPPED = Path(__file__).parent / "manifest.toml"


class Kind(StrEnum):
    """What a file of weights is for; it decides the folder that it may lie in."""

    CHECKPOINT = "checkpoint"
    VAE = "vae"
    LORA = "lora"
    HYPERNETWORK = "hypernetwork"
    CONTROLNET = "controlnet"
    UPSCALER = "upscaler"
    ANNOTATOR = "annotator"
    EMBEDDING = "embedding"
    PREVIEW = "preview"
    INTERROGATOR = "interrogator"
    TRANSLATOR = "translator"


FOLDERS = {
    Kind.CHECKPOINT: "models/Stable-diffusion",
    Kind.VAE: "models/VAE",
    Kind.LORA: "models/Lora",
    Kind.HYPERNETWORK: "models/hypernetworks",
    Kind.CONTROLNET: "models/ControlNet",
    Kind.UPSCALER: "models/ESRGAN",
    Kind.ANNOTATOR: "models/annotators",
    Kind.EMBEDDING: "embeddings",
    Kind.PREVIEW: "models/VAE-taesd",
    Kind.INTERROGATOR: "models/interrogate",
    Kind.TRANSLATOR: "models/translation",
}


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HubSource(_Strict):
    """A file of a repository on a model hub; the hub's address is a setting, because many users sit behind a mirror."""

    type: Literal["hub"]
    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    path: str
    revision: str = "main"


class UrlSource(_Strict):
    """A file at an https address."""

    type: Literal["https", "mirror"]
    url: str = Field(pattern=r"^https://")


class S3Source(_Strict):
    """An object in a bucket, read with the machine's own role."""

    type: Literal["s3"]
    bucket: str
    key: str


Source = Annotated[HubSource | UrlSource | S3Source, Field(discriminator="type")]


class Weights(_Strict):
    """One file. `sha256` is checked before the file is moved into place; `bytes` is the room that it takes.

    Without `sha256` the size is an estimate, and what is fetched first is written down and asked for from then on.
    """

    name: str = Field(pattern=r"^[\w.+-]+$")
    kind: Kind
    file: str
    bytes: int = Field(gt=0)
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    license: str = Field(min_length=1)
    groups: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()

    @field_validator("file")
    @classmethod
    def _stays_below(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or "\\" in value or "\0" in value:
            raise ValueError("must stay below the data folder")
        return value

    @model_validator(mode="after")
    def _in_its_folder(self) -> Weights:
        if not self.file.startswith(FOLDERS[self.kind] + "/"):
            raise ValueError(f"a {self.kind} lies below {FOLDERS[self.kind]}/")
        if not self.sha256 and not self.sources:
            raise ValueError("what ships with the package has a sha256")
        return self


class Manifest(_Strict):
    """All weights, names unique."""

    weights: tuple[Weights, ...]

    @model_validator(mode="after")
    def _unique(self) -> Manifest:
        for field in ("name", "file"):
            values = [getattr(row, field) for row in self.weights]
            twice = {value for value in values if values.count(value) > 1}
            if twice:
                raise ValueError(f"{field} {sorted(twice)[0]} stands twice")
        return self

    def group(self, name: str) -> tuple[Weights, ...]:
        """The weights of a group, in order."""
        return tuple(row for row in self.weights if name in row.groups)


def read_manifest(path: Path = SHIPPED) -> Manifest:
    """
    Raises:
        DanqingError: `manifest_broken`, naming the first entry that is wrong.
    """
    try:
        return Manifest.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DanqingError("manifest_broken", file=path.name, where="file", reason=str(error)) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise DanqingError("manifest_broken", file=path.name, where=where, reason=first["msg"]) from None
