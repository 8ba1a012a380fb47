"""The status file that the waiting page reads, and the boot report."""

from __future__ import annotations

import json
import threading

import pytest

from danqing.box import phases
from danqing.box.phases import phase
from danqing.box.places import Places
from tests.boxcli.conftest import well


def rows(places: Places) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in json.loads(places.status.read_text())["phases"]}


def test_a_phase_is_seen_while_it_runs_and_after(places: Places) -> None:
    with phase(places, "prefetch") as running:
        assert rows(places)["prefetch"]["state"] == "running"
        running.tell(progress=0.25)
        assert rows(places)["prefetch"]["progress"] == 0.25
        running.row["note"] = "many bytes"
    row = rows(places)["prefetch"]
    assert (row["state"], row["note"]) == ("done", "many bytes")


def test_a_failure_says_why(places: Places) -> None:
    with pytest.raises(ValueError), phase(places, "gpu"):
        raise ValueError("no luck")
    assert (rows(places)["gpu"]["state"], rows(places)["gpu"]["note"]) == ("failed", "no luck")


def test_the_report_has_the_agreed_fields(places: Places) -> None:
    with phase(places, "firstboot"), phase(places, "volume"):
        pass
    report = json.loads(places.report.read_text())
    assert [row["name"] for row in report] == ["firstboot", "volume"]
    assert all(set(row) == {"name", "state", "start", "seconds", "note"} for row in report)
    assert places.report.stat().st_mode & 0o777 == 0o644
    assert places.status.stat().st_mode & 0o777 == 0o644


def test_many_writers_lose_nothing(places: Places) -> None:
    def work(name: str) -> None:
        with phase(places, name) as running:
            for share in range(10):
                running.tell(progress=share / 10)

    names = [f"phase-{number}" for number in range(8)]
    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: row["state"] for name, row in rows(places).items()} == dict.fromkeys(names, "done")


def test_a_new_boot_keeps_the_last_report(places: Places) -> None:
    with phase(places, "firstboot") as running:
        running.row["note"] = "one"
    places.status.unlink()
    with phase(places, "firstboot") as running:
        running.row["note"] = "two"
    assert "two" in well("report")
    assert "one" in well("report", "--last")
    assert json.loads(well("report", "--json"))[0]["note"] == "two"


def test_a_broken_status_file_is_written_anew(places: Places) -> None:
    places.run.mkdir(parents=True)
    places.status.write_text('{"phases": 7')
    with phase(places, "page"):
        pass
    assert rows(places)["page"]["state"] == "done"


def test_where_nothing_can_be_written_the_work_goes_on(places: Places) -> None:
    places.run.parent.mkdir(parents=True)
    places.run.write_text("a file in the way")
    with phase(places, "page") as running:
        running.tell(progress=1)


def test_every_phase_has_a_name_in_both_languages() -> None:
    assert all(en and any(letter >= "\u4e00" for letter in zh) for en, zh in phases.TEXTS.values())


def test_no_report_yet(places: Places) -> None:
    assert "no boot report yet" in well("report")


def test_the_table_stands_straight(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    with phase(places, "prefetch") as running:
        running.row["note"] = "x"
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    lines = well("report").splitlines()
    assert "阶段" in lines[0]
    assert "完成" in lines[1]
