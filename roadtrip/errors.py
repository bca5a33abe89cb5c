"""The one exception a user is meant to read: a sentence that says what was wrong and what to do.

The command line prints it and exits with 2, the app shows it as a message; neither ever shows a traceback for it.
"""


class RoadtripError(ValueError):
    """Bad input, told in one sentence. Its `str()` is that sentence, without paths of the server's temporary folders."""
