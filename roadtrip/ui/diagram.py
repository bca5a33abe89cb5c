"""What feeds what in a recipe, drawn from its fields, and with the tensors of a network that learns."""

import base64
import io

import torch
from torch import Tensor

from ..discriminators import windows
from ..frames import flow_colours, heat, images
from ..recipes import Recipe

STEP, BOX, ROW = 78, 46, 78  # pixels: from frame to frame, a frame's side, where the frames' upper edge lies
NETWORK, DISC, MEMORY = "#009E73", "#0072B2", "#CC79A7"
MAX_FRAMES = 4  # generated frames drawn; a deeper unroll goes on in the same way


def diagram(recipe: Recipe) -> str:
    """An SVG of one training clip. Made of the recipe's numbers and choices alone, so nothing a visitor wrote is in it."""
    shown = min(recipe.unroll, MAX_FRAMES)
    generated = range(2, 2 + shown)  # places; f1's is 0
    parts = [_frame(0, "f1"), _frame(1, "f2"), *(_frame(i, f"g{i + 1}") for i in generated)]
    parts += [_network(i) for i in generated]
    if recipe.bottleneck == "lstm":
        parts += [_memory(i) for i in generated[:-1]]
    aim = "denoise" if recipe.sampler else "L1 to"
    parts += [_text(_centre(i), ROW + BOX + 18, f"{aim} f{i + 1}") for i in generated]
    seen = disc_windows(recipe, shown) if recipe.gan_weight else []
    word = "D, in random order" if recipe.disc_shuffle else "D"
    parts += [_window(window, level, word) for level, window in enumerate(seen)]
    wide, high = 20 + STEP * (2 + shown), ROW + BOX + 36 + 26 * len(seen)
    if recipe.unroll > shown:
        wide += 60
        parts.append(_text(wide - 50, ROW + BOX / 2 + 5, f"… g{recipe.unroll + 2}"))
    about = f"a discriminator sees {recipe.disc_frames} at once" if recipe.gan_weight else "no discriminator"
    drawn = ", drawn by diffusion" if recipe.sampler else ""
    said = f"{recipe.unroll} generated frames in training, each from the two before it{drawn}; {about}"
    return (
        f'<svg viewBox="0 0 {wide} {high}" style="max-width:{wide}px;width:100%" role="img" aria-label="{said}" '
        f'font-family="system-ui, sans-serif" font-size="13">{"".join(parts)}</svg>'
    )


def tensors(found: dict[str, Tensor]) -> str:
    """What train.Run.inside gave as pictures in the order in which they are made, as HTML. Made of numbers alone."""
    tiles = [("f1", found["f1"]), ("f2", found["f2"])]
    if "flow" in found:
        tiles += [("flow: colour is direction", flow_colours(found["flow"])), ("f2 moved along it", found["moved"])]
    change = (0.5 + 2 * found["change"]).clamp(0, 1)
    tiles += [
        ("change, four times; grey is none", change),
        ("g3, the prediction", found["g3"]),
        ("f3, the real one", found["f3"]),
    ]
    rows = [_tiles("The generator, on a clip it never saw: two frames in, the third out", tiles, "→")]
    for name in ("real", "generated"):
        if name not in found:
            continue
        seen = [
            (f"{name} {_place(i, k, found)}: score {scores.mean():+.2f}", heat(frame, scores))
            for i, (window, scores) in enumerate(zip(found[name], found[f"{name} scores"]))
            for k, frame in enumerate(window)
        ]
        rows.append(
            _tiles(
                f"The discriminator on {name} frames, patch by patch: blue it takes for real, orange for made",
                seen,
                "+",
            )
        )
    return "".join(rows)


def _place(window: int, frame: int, found: dict[str, Tensor]) -> str:
    of = found["real"].shape[1]
    return f"{frame + 1} of {of} seen at once" if of > 1 else f"frame {window + 1}"


def _tiles(said: str, tiles: list[tuple[str, Tensor]], between: str) -> str:
    figures = []
    for label, picture in tiles:
        file = io.BytesIO()
        images(picture.clamp(0, 1)[None])[0].save(file, "PNG")
        data = base64.b64encode(file.getvalue()).decode()
        figures.append(
            f'<figure><img alt="{label}" src="data:image/png;base64,{data}"><figcaption>{label}</figcaption></figure>'
        )
    arrow = f'<span aria-hidden="true">{between}</span>'
    return f'<p class="rt-tiles-head">{said}</p><div class="rt-tiles">{arrow.join(figures)}</div>'


def disc_windows(recipe: Recipe, unrolled: int) -> list[list[int]]:
    """The places (f1 is 0) of the frames in each window that the discriminator sees, from the function that cuts them."""
    places = torch.arange(2 + unrolled, dtype=torch.float32).view(1, -1, 1, 1, 1)
    context = places[:, 2 - recipe.disc_context : 2] if recipe.disc_context else None
    if unrolled + recipe.disc_context < recipe.disc_frames:
        return []
    cut = windows(places[:, 2:], recipe.disc_frames, recipe.disc_windows, context)
    return [[int(p) for p in window] for window in cut.flatten(1).tolist()]


def _centre(place: int) -> float:
    return 10 + STEP * place + BOX / 2


def _text(x: float, y: float, text: str, colour: str = "currentColor") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="middle" fill="{colour}">{text}</text>'


def _path(line: str, colour: str, more: str) -> str:
    return f'<path d="{line}" fill="none" stroke="{colour}" {more}/>'


def _frame(place: int, name: str) -> str:
    x, look = _centre(place), 'stroke="currentColor"'
    if name.startswith("g"):
        look = f'stroke="{NETWORK}" stroke-dasharray="4 3"'
    box = f'<rect x="{x - BOX / 2:g}" y="{ROW}" width="{BOX}" height="{BOX}" rx="6" fill="none" stroke-width="1.5" {look}/>'
    return box + _text(x, ROW + BOX / 2 + 5, name)


def _network(place: int) -> str:
    """The network that makes the frame at `place` from the two before it."""
    x, drawn = _centre(place), ""
    for back in (1, 2):
        left, top = _centre(place - back), ROW - 26 - 14 * back
        arc = f"M {left:g} {ROW - 3} C {left:g} {top}, {x - 10 * back:g} {top}, {x:g} {ROW - 42}"
        drawn += _path(arc, NETWORK, 'opacity=".7"')
    drawn += f'<circle cx="{x:g}" cy="{ROW - 42}" r="13" fill="{NETWORK}"/>' + _text(x, ROW - 37, "G", "#111")
    return drawn + _path(f"M {x:g} {ROW - 29} V {ROW - 4} m -4 -6 l 4 6 l 4 -6", NETWORK, 'stroke-width="1.5"')


def _memory(place: int) -> str:
    left, right = _centre(place), _centre(place + 1)
    line = f"M {left + 14:g} {ROW - 46} H {right - 15:g} m -5 -4 l 5 4 l -5 4"
    return _path(line, MEMORY, 'stroke-width="2.5"') + _text((left + right) / 2, ROW - 54, "memory")


def _window(window: list[int], level: int, word: str) -> str:
    """A bracket under the frames that one window holds."""
    y = ROW + BOX + 30 + 26 * level
    left, right = _centre(window[0]) - BOX / 2, _centre(window[-1]) + BOX / 2
    bracket = _path(f"M {left:g} {y} v 6 H {right:g} v -6", DISC, 'stroke-width="2"')
    return bracket + _text((left + right) / 2, y + 21, word)
