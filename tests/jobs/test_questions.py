"""What is asked of the engine beside the queue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from danqing.control.catalog import Values
from danqing.engine.interrogators import TAGGER_FILE, TAGGER_FOLDERS, Manner
from danqing.errors import DanqingError

from .support import Running, drive, until


def give_tagger(data: Path) -> None:
    """The fake engine reads no weights; the service wants to see the file."""
    folder = data.joinpath(*TAGGER_FOLDERS[0])
    folder.mkdir(parents=True)
    (folder / TAGGER_FILE).touch()


def test_an_answer_an_error_and_an_engine_that_dies(running: Running, tmp_path: Path) -> None:
    async def main() -> None:
        async with running() as service:
            give_tagger(service.data)
            await until(lambda: service.readiness().ready)
            ask = service.interrogate
            assert await ask("ab" * 32, "deepdanbooru", Manner()) == "deepdanbooru sees abababab"
            with pytest.raises(DanqingError) as caught:
                await ask("", "deepdanbooru", Manner())
            assert caught.value.code == "unknown_picture"
            with pytest.raises(DanqingError) as caught:
                await ask("ab" * 32, "deepdanbooru", Manner(longest=1))
            assert caught.value.code == "engine_lost"
            await until(lambda: service.readiness().ready)
            assert await ask("cd" * 32, "deepdanbooru", Manner()) == "deepdanbooru sees cdcdcdcd"

    drive(main())


def test_absent_networks_and_an_engine_that_is_not_there(running: Running) -> None:
    async def main() -> None:
        async with running() as service:
            with pytest.raises(DanqingError) as caught:
                await service.interrogate("ab" * 32, "deepdanbooru", Manner())
            assert caught.value.code == "interrogator_missing"
            give_tagger(service.data)
            await until(lambda: service.readiness().ready)
        with pytest.raises(DanqingError) as caught:
            await service.interrogate("ab" * 32, "deepdanbooru", Manner())
        assert caught.value.code == "engine_not_ready"

    drive(main())


def test_a_control_map_and_the_people_on_it(running: Running) -> None:
    async def main() -> None:
        async with running() as service:
            await until(lambda: service.readiness().ready)
            png, poses = await service.detect("ab" * 32, "", "openpose", Values(512, 0.5, 0.5))
            assert png.startswith(b"\x89PNG")
            assert json.loads(poses) == {"people": [], "asked": ["openpose", "ab" * 32, 512, 0.5]}
        with pytest.raises(DanqingError) as caught:
            await service.detect("ab" * 32, "", "openpose", Values(512, 0.5, 0.5))
        assert caught.value.code == "engine_not_ready"

    drive(main())
