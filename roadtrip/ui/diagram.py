"""What feeds what in a recipe, drawn from its fields: frames in a row, the network's arcs above, the losses below."""

from __future__ import annotations

import torch

from ..discriminators import windows
from ..recipes import Recipe

STEP, BOX, ROW = 78, 46, 78  # pixels: from frame to frame, a frame's side, where the frames' upper edge lies
NETWORK, LOSS, DISC = "#009E73", "#D55E00", "#0072B2"
MAX_FRAMES = 4  # generated frames drawn; a deeper unroll goes on in the same way


def diagram(recipe: Recipe) -> str:
    """An SVG of one training clip. Made of the recipe's numbers and choices alone, so nothing a visitor wrote is in it."""
    shown = min(recipe.unroll, MAX_FRAMES)
    names = ["f1", "f2"] + [f"g{i + 3}" for i in range(shown)]
    parts = [_frame(i, name) for i, name in enumerate(names)]
    parts += [_network(i + 2) for i in range(shown)]
    if recipe.bottleneck == "lstm":
        parts += [_memory(i + 2) for i in range(shown - 1)]
    parts += [_text(_centre(i + 2), ROW + BOX + 18, f"L1 to f{i + 3}", LOSS) for i in range(shown)]
    seen = disc_windows(recipe, shown) if recipe.gan_weight else []
    word = "D, in random order" if recipe.disc_shuffle else "D"
    parts += [_window(window, level, word) for level, window in enumerate(seen)]
    wide = 20 + STEP * len(names) + (60 if recipe.unroll > shown else 0)
    if recipe.unroll > shown:
        parts.append(_text(wide - 50, ROW + BOX / 2 + 5, f"… g{recipe.unroll + 2}"))
    high = ROW + BOX + 30 + 26 * len(seen) + 6
    said = f"{recipe.unroll} generated frames in training, each from the two before it; " + (
        f"a discriminator sees {recipe.disc_frames} at once" if recipe.gan_weight else "no discriminator"
    )
    return (
        f'<svg viewBox="0 0 {wide} {high}" style="max-width:{wide}px;width:100%" role="img" aria-label="{said}" '
        f'font-family="system-ui, sans-serif" font-size="13">{"".join(parts)}</svg>'
    )


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


def _frame(place: int, name: str) -> str:
    real = name.startswith("f")
    edge = "currentColor" if real else NETWORK
    dash = "" if real else ' stroke-dasharray="4 3"'
    box = f'<rect x="{_centre(place) - BOX / 2:g}" y="{ROW}" width="{BOX}" height="{BOX}" rx="6" fill="none"'
    return f'{box} stroke="{edge}" stroke-width="1.5"{dash}/>' + _text(_centre(place), ROW + BOX / 2 + 5, name)


def _network(place: int) -> str:
    """The network that makes the frame at `place` from the two before it."""
    x = _centre(place)
    arcs = [
        f'<path d="M {_centre(place - back):g} {ROW - 3} C {_centre(place - back):g} {ROW - 26 - 14 * back}, '
        f'{x - 10 * back:g} {ROW - 26 - 14 * back}, {x:g} {ROW - 42}" fill="none" stroke="{NETWORK}" opacity=".7"/>'
        for back in (1, 2)
    ]
    circle = f'<circle cx="{x:g}" cy="{ROW - 42}" r="13" fill="{NETWORK}"/>'
    arrow = (
        f'<path d="M {x:g} {ROW - 29} V {ROW - 4} m -4 -6 l 4 6 l 4 -6" fill="none" stroke="{NETWORK}" '
        f'stroke-width="1.5"/>'
    )
    return "".join(arcs) + circle + _text(x, ROW - 37, "G", "#fff") + arrow


def _memory(place: int) -> str:
    line = f"M {_centre(place) + 14:g} {ROW - 46} H {_centre(place + 1) - 15:g} m -5 -4 l 5 4 l -5 4"
    return f'<path d="{line}" fill="none" stroke="#CC79A7" stroke-width="2.5"/>' + _text(
        (_centre(place) + _centre(place + 1)) / 2, ROW - 54, "memory", "#CC79A7"
    )


def _window(window: list[int], level: int, word: str) -> str:
    """A bracket under the frames that one window holds."""
    y = ROW + BOX + 30 + 26 * level
    left, right = _centre(window[0]) - BOX / 2, _centre(window[-1]) + BOX / 2
    bracket = f'<path d="M {left:g} {y} v 6 H {right:g} v -6" fill="none" stroke="{DISC}" stroke-width="2"/>'
    return bracket + _text((left + right) / 2, y + 21, word, DISC)
