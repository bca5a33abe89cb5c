"""What stands between the network and the app: every answer is a value or one sentence, and a visitor's values have the
types that their fields have.

Independent of tabs. Gradio answers some requests with no message, with a path of the server's or after a lookup of a host,
and prints what visitors cause as tracebacks.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import components as c
from gradio.route_utils import FnIndexInferError
from starlette.middleware import Middleware

from ..errors import RoadtripError, no_room
from . import budget
from .budget import DISK_FULL, OUR_FAULT
from .session import page_closed, page_opened
from .tab import sentence_of, ui_error

NOT_UNDERSTOOD = "This request can't be understood; see “Use via API” for the values that each endpoint takes."
NOT_THERE = "There is nothing at this address; see “Use via API” for what there is."
FULL = "There is no room for more uploads just now; try again in half an hour, or with smaller files."


class Page(gr.Blocks):
    """Blocks whose handlers are called only with values of their fields' types, and fail only in one sentence."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False) -> Any:
        if not isinstance(inputs, list) or len(inputs) < len(block_fn.inputs):
            raise RoadtripError(
                f"This takes {sum(not b.skip_api for b in block_fn.inputs)} values; see “Use via API” for which."
            )
        for field, value in zip(block_fn.inputs, inputs):
            check_type(field, value)
        return await super().preprocess_data(block_fn, inputs, state, explicit_call)

    async def call_function(self, *arguments: Any, **named: Any) -> Any:
        try:
            return await super().call_function(*arguments, **named)
        except Exception as error:
            if isinstance(error, (StopAsyncIteration, RoadtripError, gr.Error)) or no_room(error):
                raise
            logging.getLogger("roadtrip").error("a handler failed", exc_info=True)
            raise ui_error(OUR_FAULT) from None

    async def process_api(self, *arguments: Any, **named: Any) -> Any:
        try:
            return await super().process_api(*arguments, **named)
        except gr.Error as error:
            error.print_exception = False
            raise
        except Exception as error:
            if isinstance(error, StopAsyncIteration):
                raise
            if isinstance(error, RoadtripError) or no_room(error):
                raise ui_error(sentence_of(error)) from None
            if isinstance(error, (ValueError, TypeError, KeyError, OSError)):
                # gradio's own, before a handler is called
                logging.getLogger("roadtrip").info("refused", exc_info=True)
                raise ui_error(NOT_UNDERSTOOD) from None
            logging.getLogger("roadtrip").error("unexpected %s", type(error).__name__)
            raise ui_error(OUR_FAULT) from None


def check_type(field: Any, value: Any) -> None:
    """Raises RoadtripError where the field can't hold such a value. An empty field is its handler's business."""
    if value is None or isinstance(field, (c.State, c.HTML)):
        return
    if isinstance(field, c.File):
        files = value if isinstance(value, list) else [value]
        budget.check_files(files)
        # gradio would fetch what has an address
        good = all(
            isinstance(f, dict)
            and isinstance(f.get("path"), str)
            and "://" not in f["path"]
            and f["path"].isprintable()
            for f in files
        )
        if not good or any("://" in str(f.get("url") or "") and not _own(f["url"]) for f in files):
            raise RoadtripError(f"“{field.label}” takes files that were uploaded here, by their path.")
    elif isinstance(field, (c.Number, c.Slider)):
        if type(value) not in (int, float) or not isfinite(value):
            raise RoadtripError(f"“{field.label}” should be a number.")
    elif isinstance(field, c.Checkbox):
        if type(value) is not bool:
            raise RoadtripError(f"“{field.label}” should be true or false.")
    elif not isinstance(value, str) or len(value) > budget.MAX_TEXT:
        name = getattr(field, "label", None) or "This field"
        raise RoadtripError(f"“{name}” should be text of at most {budget.MAX_TEXT} characters.")


def _own(url: Any) -> bool:
    """Whether an address is one that this server has given for an upload."""
    return isinstance(url, str) and "/gradio_api/file=" in url


class Guard:
    """ASGI middleware: what goes wrong is one sentence as JSON; it tells sessions which pages are open."""

    def __init__(self, app: Any) -> None:
        self.app, self.uploads = app, Uploads()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        if path.endswith("/upload") and scope["method"] == "POST" and self.uploads.full():
            await _say(send, 413, FULL)
            return
        page = path.rpartition("/heartbeat/")[2] if "/heartbeat/" in path else None
        if page:
            threading.Thread(target=page_opened, args=[page], daemon=True).start()
        answer = Answer(send)
        try:
            await self.app(scope, receive, answer)
        except Exception as error:
            if answer.begun:
                if not answer.replaced:
                    await send({"type": "http.response.body", "body": b""})
            elif no_room(error):
                await _say(send, 507, DISK_FULL)
            elif isinstance(error, (FnIndexInferError, KeyError)):
                await _say(send, 404, NOT_THERE)
            elif isinstance(error, (ValueError, TypeError, LookupError, OSError)):
                await _say(send, 400, NOT_UNDERSTOOD)
            else:
                await _say(send, 500, OUR_FAULT)
            logging.getLogger("roadtrip").info("%s: %s", path.split("=")[0], type(error).__name__)
        finally:
            if page:
                page_closed(page)


class Answer:
    """Passes an answer on; an error's body, which may say anything, becomes a sentence."""

    def __init__(self, send: Callable[[Any], Awaitable[None]]) -> None:
        self.send, self.begun, self.replaced = send, False, False

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            status = message["status"]
            if status in (403, 404, 405, 422, 500):
                self.replaced = True
                sentence = {422: NOT_UNDERSTOOD, 500: OUR_FAULT}.get(status, NOT_THERE)
                await _say(self.send, status, sentence)
                return
        if not self.replaced:
            await self.send(message)


async def _say(send: Any, status: int, sentence: str) -> None:
    body = json.dumps({"detail": sentence, "error": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Uploads:
    """How much lies in the folder of uploads; looked up every few seconds at most."""

    def __init__(self) -> None:
        self.when, self.bytes = -60.0, 0

    def full(self) -> bool:
        if time.monotonic() - self.when > 5:
            folder = Path(os.environ.get("GRADIO_TEMP_DIR") or gr.utils.get_upload_folder())
            remove_partial(folder)
            self.bytes = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) if folder.is_dir() else 0
            self.when = time.monotonic()
        return self.bytes > budget.MAX_UPLOADS


def remove_partial(folder: Path) -> None:
    """Removes what uploads that broke off have left: gradio writes beside its folders, and moves what is whole into one."""
    for file in folder.glob("tmp*"):
        with suppress(OSError):
            if file.is_file() and file.stat().st_mtime < time.time() - budget.UPLOAD_SILENCE:
                file.unlink()


MIDDLEWARE = [Middleware(Guard)]
