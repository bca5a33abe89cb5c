"""A finished training as one zip: its checkpoint, its losses, and a script that trains it again.

What a script says of a run goes in as JSON, and what a file is called as a slug: neither can be code or a path.
"""

import json
import math
import re
import tempfile
import unicodedata
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import scenery
from .atomic import whole_file
from .checkpoint import CONFIG, MODEL, Provenance, digest, load, save, shipped_names
from .errors import RoadtripError
from .model import NextFrame

SCRIPT = """# Trains the same network again: the same weights, bit for bit, on a CPU with the same torch and vectors.
import json

import roadtrip as rt

run = json.loads(r'''{run}''')
for note in run["notes"]:
    print(note)
film = rt.open_film(run["film"], size=run["size"], gap=run["gap"])
if film.fingerprint != run["fingerprint"]:
    print("This is not the film that it was trained on, or it was read in another way.")
how = {{name: run[name] for name in ("steps", "stop_at", "seed", "held_out", "start", "dtype", "device")}}
for p in rt.train(rt.Recipe.from_dict(run["recipe"]), film, **how):
    print(p.step, p.losses)
rt.save("run", p)
"""


def script(known: Provenance, size: Sequence[int]) -> str:
    """Python that repeats the training of weights of a provenance, on frames of size (H, W).

    A run that was gone on with is not repeated: the script trains as many steps in one go, and says so.
    """
    film, notes = known.film, []
    name = re.fullmatch(r"scenery(?::(\d{1,18}))?", film.name, re.ASCII)
    rendered = name and scenery.fingerprint(int(name[1] or 0), (size[0], size[1])) == film.fingerprint
    if any(planned != known.steps for _, planned in known.resumed_at):  # with one plan it equals an unbroken run
        stops = ", ".join(str(step) for step, _ in known.resumed_at)
        notes.append(
            f"This run was stopped and gone on with at step {stops}, and its step size was planned anew there. That is "
            "not repeated: trained in one go, as here, the weights will be others."
        )
    start = known.start and (
        known.start.name
        if known.start.name in shipped_names() and digest(load(known.start.name)) == known.start.digest
        else "PUT THE FOLDER OF THE WEIGHTS THAT IT BEGAN FROM HERE"
    )
    run = {
        "film": film.name if rendered else "PUT THE PATH OF YOUR FILM HERE",
        "size": list(size),
        "gap": film.gap,
        "fingerprint": film.fingerprint,
        # one that was stopped before its seconds had become steps was on the plateau of any longer plan
        "steps": known.steps or math.ceil(known.step / (known.recipe.plateau or 1)),
        "stop_at": known.step,
        "seed": known.seed,
        "held_out": known.held_out,
        "start": start,
        "dtype": known.dtype,
        "device": known.device,
        "versions": dict(known.versions),
        "notes": notes,
        "recipe": known.recipe.to_dict(),
    }
    # in ASCII, and without the one character that could end the literal, which JSON may write as its number
    return SCRIPT.format(run=json.dumps(run, indent=1).replace("'", "\\u0027"))


def write_zip(folder: Path, model: NextFrame, losses: Mapping[str, Sequence[tuple[int, float]]] | None = None) -> Path:
    """Writes the zip of a model that was trained into `folder`, and returns its path.

    losses: by name (step, value), one step list for all; a table of them goes in.
    Raises RoadtripError for a model without a provenance, or where the zip cannot be written.
    """
    known: Provenance | None = model.provenance
    if known is None or not known.step:
        raise RoadtripError("Nothing is known of how this model was trained; train a recipe first.")
    name = slug(f"roadtrip {known.recipe.name} seed{known.seed} step{known.step}")
    file = folder / f"{name}.zip"
    with (
        tempfile.TemporaryDirectory(dir=folder) as home,
        whole_file(file) as unfinished,
        zipfile.ZipFile(unfinished, "w") as archive,
    ):
        saved = save(home, model)
        for part in (CONFIG, MODEL):
            archive.write(saved / part, f"{name}/{part}")
        if losses:
            rows = [[row[0][0], *(f"{value:.6g}" for _, value in row)] for row in zip(*losses.values())]
            lines = [",".join(map(str, row)) for row in (["step", *losses], *rows)]
            archive.writestr(f"{name}/losses.csv", "\n".join([*lines, ""]))
        archive.writestr(f"{name}/reproduce.py", script(known, model.size))
    return file


def slug(text: str, most: int = 80) -> str:
    """Text as a file's name: a to z, digits and single hyphens, at most so many characters, never empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9]+", "-", plain)[:most].strip("-") or "unnamed"
