"""What is told of jobs that are over: seconds by phase, errors by code, and log lines with job and user."""

from __future__ import annotations

import structlog

from danqing.errors import DanqingError
from danqing.jobs.model import Job, JobState
from danqing.jobs.tally import SECONDS, Tally

from .support import Running, a_request, drive


def test_times_and_errors_are_counted() -> None:
    tally = Tally()
    job = Job("a", "li", a_request(), JobState.RUNNING, created=100.0, started=103.0)
    tally.over(job, 104.0, None)
    tally.over(job, 90.0, DanqingError("engine_lost", attempts=3))
    tally.over(Job("b", "li", a_request(), JobState.QUEUED, created=100.0), 200.0, DanqingError("cancelled"))
    waited, drawn = tally.phases["waiting"], tally.phases["drawing"]
    assert (sum(waited.counts), waited.total) == (2, 6.0)
    assert dict(drawn.cumulative()) == {str(bound): 1.0 if bound < 1 else 2.0 for bound in SECONDS} | {"+Inf": 2.0}
    assert tally.errors == {"engine_lost": 1, "cancelled": 1}


def test_log_lines_name_job_and_user_and_no_prompt(running: Running) -> None:
    async def work() -> None:
        async with running() as service:
            job = await service.submit(a_request("a secret garden"), owner="li")
            await service.wait(job.id)
            lines = [line for line in logged if line.get("job") == job.id]
            assert [line["event"] for line in lines] == ["job queued", "job over"]
            assert {line["user"] for line in lines} == {"li"}
            assert lines[1]["state"] == "done"
            assert lines[1]["seconds"] >= 0
            assert "secret" not in str(logged)

    with structlog.testing.capture_logs() as logged:
        drive(work())
