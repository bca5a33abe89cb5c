"""Makes the moving picture at the top of the README, and the Space's thumbnail: three networks that ship drive on from
the same two frames, which none of them was trained on. `make picture`.

Frames are as the networks drew them; only repeated pixels make them larger.
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import roadtrip as rt
from roadtrip.frames import images

DOCS = Path(__file__).parents[1] / "docs"
SHOWN = {  # checkpoint: what is said of it
    "post-flip": "pair discriminator: flips",
    "replay-v2": "trained on its own rollouts: stands still",
    "v4": "draws its frames: drives on",
}
START, HORIZON, FPS, QUALITY = 150, 96, 8, 55
PLATE = (258, 146)  # of each network: 72×128 twice, 48×80 three times, and a border
HEADER = 20


def plate(frame: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A frame in the middle of a plate, as many whole times its size as fit."""
    times = min(size[0] // frame.width, size[1] // frame.height)
    large = frame.resize((times * frame.width, times * frame.height), Image.Resampling.NEAREST)
    whole = Image.new("RGB", size, "white")
    whole.paste(large, ((size[0] - large.width) // 2, (size[1] - large.height) // 2))
    return whole


def compose(rollouts: dict[str, Tensor]) -> list[Image.Image]:
    """Rollouts [T, 3, H, W] by name, as the frames of one picture with what is said of each above it."""
    font = ImageFont.load_default(12)
    pictures = []
    for frames in zip(*(images(y) for y in rollouts.values())):
        whole = Image.new("RGB", (PLATE[0] * len(frames), PLATE[1] + HEADER), "white")
        for i, (frame, name) in enumerate(zip(frames, rollouts)):
            whole.paste(plate(frame, PLATE), (i * PLATE[0], HEADER))
            ImageDraw.Draw(whole).text(((i + 0.5) * PLATE[0], HEADER / 2), SHOWN[name], "black", font, anchor="mm")
        pictures.append(whole)
    return pictures


def main() -> None:
    rollouts = {}
    for name in SHOWN:
        model = rt.load(name)
        film = rt.open_film("scenery", size=model.size)
        f1, f2 = film.clips(film.starts(2, "held_out")[START : START + 1], 2)[0]
        rollouts[name] = rt.rollout(model, f1, f2, HORIZON)[0]
    first, *rest = compose(rollouts)
    file = DOCS / "rollouts.webp"
    first.save(file, save_all=True, append_images=rest, duration=round(1000 / FPS), loop=0, quality=QUALITY, method=6)
    rest[-1].save(DOCS / "thumbnail.png", optimize=True)
    print(f"{file}: {file.stat().st_size / 2**20:.2f} MB, {HORIZON} frames; {DOCS / 'thumbnail.png'}")


if __name__ == "__main__":
    main()
