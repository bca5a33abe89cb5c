"""Trains the checkpoints that ship with the app: each recipe on the rendered road, one seed, a fixed number of steps.

`make checkpoints` runs it. Finished ones of the same recipe, seed and steps are kept; delete a folder to remake it.
"""

import json
import sys
from pathlib import Path

from tqdm import tqdm

import roadtrip as rt

HERE = Path(__file__).parent
SEED, STEPS = 0, 600


def made(folder: Path, recipe: rt.Recipe, film: rt.Film) -> bool:
    config = folder / "config.json"
    if not config.exists():
        return False
    said = json.loads(config.read_text())["provenance"]
    wanted = (recipe.to_dict(), SEED, STEPS, film.fingerprint)
    return (said["recipe"], said["seed"], said["step"], said["film"]["fingerprint"]) == wanted


def main() -> None:
    film = rt.open_film("scenery")
    for name, recipe in rt.RECIPES.items():
        if made(HERE / name, recipe, film):
            print(f"{name} is there already", file=sys.stderr)
            continue
        with tqdm(total=STEPS, desc=name, unit="step") as bar:
            for p in rt.train(recipe, film, steps=STEPS, seed=SEED, preview_every=1e9):
                bar.update(p.step - bar.n)
                bar.set_postfix({k: f"{v:.4f}" for k, v in p.losses.items()}, refresh=False)
        rt.save(HERE / name, p)
        measured = rt.evaluate(p.model, film, 64, most=32).to_dict()
        shown = {k: measured[k] for k in ("R", "N", "S", "sharpness_ratio", "verdict")}
        print(name, {m: [round(v[h], 2) for h in (0, 3, 15)] for m, v in measured["psnr"].items()}, shown, flush=True)


if __name__ == "__main__":
    main()
