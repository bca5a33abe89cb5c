"""Files are written whole or not at all: in a locked folder beside them, fsync, rename. What killed writes left there is
removed by the next one.

Independent of what is in them.
"""

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import takewhile
from pathlib import Path

from safetensors import SafetensorError

from .errors import WriteError

try:
    import fcntl
except ImportError:  # Windows, where no folder can be opened to be locked either
    fcntl = None  # type: ignore[assignment]


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path of the same name; on a clean exit it is synced and renamed to `path`.

    On an exception nothing is left behind and an older `path` stays as it was; a write that is killed leaves a folder,
    which the next write beside it removes.
    Raises WriteError where `path` can't be written, also for what the caller's own writing to the temporary path
    raises as OSError or SafetensorError (a full disk).
    """
    path, made = Path(path), []
    try:
        if "\0" in str(path) or (path.exists() and not path.is_file()):  # as root, /dev/null would be replaced
            raise OSError(0, "it is a folder" if path.is_dir() else "it is not a file")
        made = [*takewhile(lambda folder: not folder.exists(), path.parents)]
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        with _folder_in(path.parent) as home:
            temporary = home / path.name
            # open() gives it the mode of any new file. tempfile's would be private, and to learn the umask a process
            # has to change it, for all of its threads.
            temporary.open("xb").close()
            mode = stat.S_IMODE(temporary.stat().st_mode)
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(mode)  # safetensors puts a private file in its place
            temporary.replace(path)
        with suppress(OSError):  # makes the rename itself durable, where a folder can be opened
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):  # they aren't empty
            for new in made:
                new.rmdir()
        number = re.search(r"os error (\d+)", str(error))  # safetensors has it in its text
        reason = getattr(error, "strerror", None) or (os.strerror(int(number[1])) if number else "the write failed")
        name = path.name if len(path.name) < 60 else f"{path.name[:60]}…"
        raise WriteError(
            f"Cannot write {name or path}: {reason}; choose a file in a folder that can be written and has room."
        ) from None


def remove_leftovers(folder: Path) -> None:
    """Removes what killed writes left in a folder. What is being written is locked, and stays; so does everything where
    there are no locks."""
    for home in folder.glob(".roadtrip-" + 16 * "[0-9a-f]"):
        with suppress(OSError), _locked(home, wait=False):
            shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _folder_in(parent: Path) -> Iterator[Path]:
    """A locked folder for one write and the writer's own temporary files; gone afterwards."""
    with ExitStack() as stack:
        while True:
            home = parent / f".roadtrip-{secrets.token_hex(8)}"
            home.mkdir()
            try:
                stack.enter_context(_locked(home, wait=True))
            except FileNotFoundError:
                continue  # another write found it unlocked, and removed it
            except OSError:
                break  # nothing locks here, and so nothing is removed
            if home.exists():
                break
        try:
            yield home
        finally:
            shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _locked(home: Path, wait: bool) -> Iterator[None]:
    """Raises OSError where the folder can't be locked, or not without waiting."""
    lock = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(lock)
