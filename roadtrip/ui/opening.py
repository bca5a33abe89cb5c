"""The film that a visitor sees first: a browser reads Gradio for two seconds or more before anything of a page shows."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

HTML = (Path(__file__).parent / "opening.html").read_bytes()
_film = b""


def opens_on(webp: bytes) -> None:
    """Lets the page open on this moving picture from now on; without one it opens as Gradio has it."""
    global _film
    _film = webp


class Opening:
    """ASGI middleware that puts the film into the page that Gradio sends, unless a link asks for something else."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        page = scope["type"] == "http" and (scope["method"], scope["path"]) == ("GET", "/")
        if not (page and _film) or asks_for_something(scope["query_string"].decode("latin-1")):
            await self.app(scope, receive, send)
            return
        figure = HTML.replace(b"FILM", base64.b64encode(_film))
        begun: Any = None

        async def with_film(message: Any) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = message
                return
            if begun:  # how long the answer is must be told before it
                body = message["body"].replace(b"<gradio-app", figure + b"<gradio-app", 1)
                headers = dict(begun["headers"])
                if b"content-length" in headers:
                    longer = len(body) - len(message["body"])
                    headers[b"content-length"] = str(int(headers[b"content-length"]) + longer).encode()
                await send(begun | {"headers": list(headers.items())})
                begun, message = None, message | {"body": body}
            await send(message)

        await self.app(scope, receive, with_film)


def asks_for_something(query: str) -> bool:
    """Whether a link asks for a view of its own; __theme and the like, which Spaces add, do not."""
    return any(not key.startswith("__") for key, _ in parse_qsl(query))
