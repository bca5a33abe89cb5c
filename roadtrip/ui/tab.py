"""What a tab tells the page: its values in the address, and its first events. Independent of what the tab shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .session import Session

Event = dict[str, Any]  # what gradio listens with: fn, inputs, outputs, and how it is queued
QUIET: Event = {"api_visibility": "private", "show_progress": "hidden"}
VIEW: Event = {"concurrency_id": "view", "concurrency_limit": 2, "show_progress": "hidden"}  # beside a training


class Field(NamedTuple):
    """A value that stands in the address, under its name.

    parse: from a link's text to the component's value; raises ValueError or RoadtripError for what it can't be.
    choices: of a menu whose choices differ between sessions; a link may ask for one of them.
    """

    name: str
    component: Any
    parse: Callable[[str], Any] = str
    choices: Callable[[Session], list[str]] | None = None


class Tab(NamedTuple):
    """restore: events that put back, as soon as the page is there, what the address and the session say; they compute
    next to nothing. first: events that draw the tab for the first time, one after the other. changes: events after which
    there are other models or films. warm_up: called once when the server starts, so that no visitor waits for it."""

    address: list[Field]
    first: list[Event]
    changes: list[Any]
    restore: Sequence[Event] = ()
    warm_up: Callable[[], None] | None = None


def whole_number(text: str, low: int, high: int) -> int:
    """Raises ValueError where a link's text is not a whole number in this range."""
    if not (text.isascii() and text.isdigit() and len(text) < 11 and low <= int(text) <= high):
        raise ValueError(text)
    return int(text)
