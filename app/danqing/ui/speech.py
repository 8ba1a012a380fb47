"""How handlers speak to the reader: whose request it is, in which language, and errors as sentences."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

import gradio as gr

from danqing.errors import DanqingError, Language
from danqing.ui.words import language_for, say, sentence

log = logging.getLogger(__name__)


def reader(request: gr.Request) -> Language:
    """The language of whoever sent this."""
    return language_for(request.headers)


@contextmanager
def in_words(request: gr.Request) -> Iterator[None]:
    """Turns what goes wrong inside into a notice in the reader's language; never a traceback.

    Raises:
        gr.Error: Gradio shows it; its text is HTML, so it is escaped here.
    """
    language = reader(request)
    try:
        yield
    except DanqingError as error:
        raise _notice(error, language) from None
    except gr.Error:
        raise
    except Exception:
        reference = secrets.token_hex(4)
        log.exception("page handler failed, reference %s", reference)
        raise _notice(DanqingError("internal", reference=reference), language) from None


def _notice(error: DanqingError, language: Language) -> gr.Error:
    text = escape(sentence(error, language))
    return gr.Error(text, title=say("error_title", language), duration=12, print_exception=False)
