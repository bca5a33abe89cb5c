"""The one exception a user is meant to read: a sentence that says what was wrong and what to do.

The command line prints it and exits with 2, the app shows it as a message; neither ever shows a traceback for it.
"""

import errno
import sys
from contextlib import suppress


class RoadtripError(ValueError):
    """Bad input, told in one sentence. Its `str()` is that sentence, without paths of the server's temporary folders."""


class WriteError(RoadtripError):
    """A file can't be written where it was to lie."""


def no_room(error: BaseException) -> bool:
    """Whether a disk that is full or can't be written is behind an error."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
    return isinstance(error, WriteError) or (isinstance(error, OSError) and error.errno in full)


def tell(sentence: str) -> None:
    """Says it on standard error, even where nobody reads that any more."""
    with suppress(BrokenPipeError):
        print(sentence, file=sys.stderr, flush=True)
