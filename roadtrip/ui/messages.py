"""What the app says when something is wrong: one sentence, safe to show. Independent of films, models and sessions."""

from __future__ import annotations

import html
import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from ..errors import RoadtripError


@contextmanager
def user_errors() -> Iterator[None]:
    """Shows a RoadtripError in the page as its sentence; any other error as our fault, with its details in the log only."""
    try:
        yield
    except gr.Error:
        raise
    except RoadtripError as error:
        raise ui_error(str(error)) from None
    except Exception:
        logging.getLogger("roadtrip").exception("unexpected")
        raise ui_error("Something went wrong on our side; try again, or with other settings.") from None


def ui_error(sentence: str) -> gr.Error:
    """A sentence as a gr.Error, which is shown as HTML; the sentence may hold the name of an uploaded file."""
    return gr.Error(html.escape(sentence, quote=False), print_exception=False)


def number(value: float | None, what: str) -> float:
    """The number in a field; raises RoadtripError where the field is empty."""
    if value is None or not math.isfinite(value):
        raise RoadtripError(f"A field is empty: fill in {what}.")
    return float(value)


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is: names of films come from uploaded files."""
    return re.sub(r"([\\`*_{}\[\]<>#|!~$])", r"\\\1", text)


def two_decimals(value: float | None, undefined: str = "–") -> str:
    return undefined if value is None else f"{value:.2f}"
