"""Files are written whole or not at all: a temporary neighbour, fsync, rename.

Independent of what is in them.
"""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from .errors import RoadtripError


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` (same suffix); on a clean exit it is synced and renamed to `path`.

    On an exception nothing is left behind and an older `path` stays as it was.
    Raises RoadtripError where `path` can't be written, also for what the caller's own writing to the temporary path
    raises as OSError or SafetensorError (a full disk).
    """
    path, temporary = Path(path), None
    try:
        if path.is_dir() or "\0" in str(path):
            raise OSError(0, "it is a folder" if path.is_dir() else "no file has such a name")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem[:48]}-{secrets.token_hex(8)}{path.suffix}")
        # open() gives it the mode of any new file. tempfile's would be private, and to learn the umask a process has to
        # change it, for all of its threads.
        temporary.open("xb").close()
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        with suppress(OSError):  # makes the rename itself durable, where a folder can be opened
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except (OSError, SafetensorError) as error:
        number = re.search(r"os error (\d+)", str(error))  # safetensors has it in its text
        reason = getattr(error, "strerror", None) or (os.strerror(int(number[1])) if number else "the write failed")
        name = path.name if len(path.name) < 60 else f"{path.name[:60]}…"
        raise RoadtripError(
            f"Cannot write {name or path}: {reason}; choose a file in a folder that can be written and has room."
        ) from None
    finally:
        if temporary:
            with suppress(OSError):
                temporary.unlink()
