"""Logging: structlog on top of the standard library, one line an event, JSON or readable.

Context is bound (`structlog.contextvars.bind_contextvars(job=..., user=...)`), not formatted into the message. Prompts,
passwords and the contents of pictures are never logged.
"""

from __future__ import annotations

import logging
import sys

import structlog

Processors = list[structlog.typing.Processor]


def configure(form: str = "console", level: str = "info") -> None:
    """Send everything that is logged to stderr.

    Args:
        form: "json" for one JSON object a line, "console" for people.
        level: name of the lowest level shown: debug, info, warning or error.
    """
    shared = _shared()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_final(form)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in (("uvicorn", logging.WARNING), ("httpx", logging.WARNING), ("asyncio", logging.WARNING)):
        logging.getLogger(name).setLevel(max(least, root.level))


def _shared() -> Processors:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _final(form: str) -> Processors:
    keep: Processors = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if form == "json":
        return [*keep, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    # Locals in tracebacks would carry prompts and passwords into the log.
    plain = structlog.dev.plain_traceback
    return [*keep, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
