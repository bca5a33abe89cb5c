"""Footage decoded in a process of its own, with limits on time and memory: what crashes a decoder costs one upload.

Independent of who uploads. The process says a JSON object a line. It never imports torch, which takes longer to load than
sixty stills to read.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from safetensors import safe_open
from safetensors.numpy import save_file

from .atomic import whole_file
from .decode import Footage, Report, read_footage
from .errors import RoadtripError, WriteError, no_room

MAX_BYTES = 4 * 2**30  # of memory; 16,000 frames of 72×128 are 0.44 · 10⁹, and twice that while they are put together
MAX_SECONDS = 1800
MAX_SILENCE = 300  # seconds without a report
# this package without its __init__, which imports torch
START = f"""
import sys, types
sys.modules["{__package__}"] = package = types.ModuleType("{__package__}")
package.__path__ = [{str(Path(__file__).parent)!r}]
from {__name__} import main
sys.exit(main(*sys.argv[1:]))
"""


def decode_apart(sources: Sequence[Path], size: tuple[int, int], report: Report) -> list[Footage]:
    """What read_footage gives of each source, in one list. Raises RoadtripError as it does, and where the process is
    ended by a limit or a crash; a `report` that raises ends it, too. On Windows there are no limits."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as home:
        request = {"size": size, "home": home, "limits": [MAX_BYTES, MAX_SECONDS, MAX_SILENCE]}
        command = [sys.executable, "-P", "-c", START, json.dumps(request), *map(str, sources)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"TMPDIR": home},  # what it unpacks goes with it, however it ends
        )
        try:
            for line in process.stdout or ():
                try:
                    said = json.loads(line)
                except ValueError:
                    continue  # it broke off
                if "error" in said:
                    raise (WriteError if said["disk"] else RoadtripError)(said["error"])
                report(*said["report"])
            process.wait()
        finally:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        if process.returncode == -getattr(signal, "SIGALRM", 0):
            raise RoadtripError(f"{sources[0].name} takes too long to read; give less at a time, or smaller.")
        if process.returncode or not _result(home).exists():
            raise RoadtripError(
                f"{sources[0].name} can't be read: it is damaged, or takes over {MAX_BYTES / 2**30:g} GB of memory; export "
                "it again, smaller or in shorter pieces."
            )
        with safe_open(_result(home), framework="np") as file:  # arrays are copies, as the file goes
            found = []
            for i, facts in enumerate(json.loads(file.metadata()["footage"])):
                facts |= {k: tuple(v) for k, v in facts.items() if isinstance(v, list)}
                found.append(Footage(**facts, frames=file.get_tensor(str(i))))
        return found


def _result(home: str) -> Path:
    return Path(home) / "footage.safetensors"


def main(request: str, *sources: str) -> int:
    asked = json.loads(request)
    memory, seconds, silence = asked["limits"]
    ends = monotonic() + seconds
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever decoders print
    with suppress(ImportError, ValueError, OSError):  # not every system has them
        import resource

        for limit, most in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_CORE, 0)):
            hard = resource.getrlimit(limit)[1]
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(limit, (most, hard))

    def report(*said: object) -> None:
        if hasattr(signal, "alarm"):  # its signal ends the process, in whatever decoder it hangs
            signal.alarm(max(1, min(silence, round(ends - monotonic()))))
        print(json.dumps({"report": said}), file=out, flush=True)

    report(0, None, "opening the files")
    try:
        found = [drive for path in sources for drive in read_footage(Path(path), tuple(asked["size"]), report)]
        facts = [{k: v for k, v in vars(drive).items() if k != "frames"} for drive in found]
        frames = {str(i): drive.frames for i, drive in enumerate(found)}
        with whole_file(_result(asked["home"])) as file:
            save_file(frames, file, {"footage": json.dumps(facts)})
    except (RoadtripError, OSError) as error:
        if not (isinstance(error, RoadtripError) or no_room(error)):
            raise
        print(json.dumps({"error": str(error), "disk": no_room(error)}), file=out, flush=True)
    return 0
