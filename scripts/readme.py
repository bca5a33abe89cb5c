"""Executes the README's own commands and examples one by one, as they stand there: `make readme`.

~/trip/stills is a folder of stills made for it. The app stays open for the example that asks it; `make test` is left to
itself, and the study, which takes hours on new film, is stopped after a minute: stopping it at any moment is promised.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import roadtrip as rt
from roadtrip.frames import images

ROOT = Path(__file__).parents[1]
ADDRESS = "http://127.0.0.1:7860"


def blocks() -> list[tuple[str, str]]:
    """(language, text) of each fenced block of commands or of Python."""
    return re.findall(r"^```(sh|python)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)


def say(what: str, began: float, code: int | None) -> bool:
    good = code in (0, None)
    print(
        f"{'ok' if good else f'FAILED ({code})'}  {time.monotonic() - began:6.1f} s  {what.splitlines()[0]}", flush=True
    )
    return good


def opened(command: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """The app, once it answers. Raises TimeoutError where it doesn't within ten minutes."""
    app = subprocess.Popen(command, shell=True, cwd=ROOT, env=env, start_new_session=True)
    for _ in range(600):
        with suppress(OSError), urllib.request.urlopen(f"{ADDRESS}/config") as answer:
            if answer.status == 200:
                return app
        if app.poll() is not None:
            break
        time.sleep(1)
    raise TimeoutError(f"{command} does not answer at {ADDRESS}")


def run(command: str, folder: str, env: dict[str, str], seconds: float | None) -> int | None:
    """The exit status of a command; None where it was stopped, with all that it started, after so many seconds."""
    process = subprocess.Popen(command, shell=True, cwd=folder, env=env, start_new_session=True)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 15)
        process.wait()
        return None


def main() -> int:
    good, apps = True, []
    with tempfile.TemporaryDirectory() as home:
        stills = Path(home) / "trip" / "stills"
        stills.mkdir(parents=True)
        for t, picture in enumerate(images(rt.open_film("scenery").frames)):
            picture.save(stills / f"{t:04}.png")
        env = os.environ | {"HOME": home, "PYTHONPATH": str(ROOT)}
        env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
        try:
            for language, text in blocks():
                for command in [text] if language == "python" else text.splitlines():
                    began = time.monotonic()
                    code: int | None = 0
                    if command == "make test":
                        continue
                    if command == "make app":
                        apps.append(opened(command, env))
                    elif language == "python":
                        code = subprocess.run([sys.executable, "-c", text], cwd=home, env=env).returncode
                    else:
                        code = run(command, home, env, 60 if " study " in command else None)
                    good = say(command, began, code) and good
        finally:
            for app in apps:
                os.killpg(app.pid, 15)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
