"""Charts as pure functions from numbers to plotly figures (plain JSON). The app and notebooks show the same ones."""

from __future__ import annotations

from typing import Any

# Okabe and Ito's colours: told apart by colour-blind eyes, and on light and dark grounds
COLOURS = {
    "model": "#D55E00",
    "copy_last": "#0072B2",
    "linear": "#009E73",
    "mean_frame": "#999999",
    "real film": "#999999",
    "l1": "#D55E00",
    "generator": "#CC79A7",
    "discriminator": "#56B4E9",
}
PAIR = ("#D55E00", "#0072B2")
NAMES = {
    "model": "model",
    "copy_last": "copy the last frame",
    "linear": "linear extrapolation",
    "mean_frame": "mean training frame",
    "l1": "L1",
}
Values = list[float | None]


def _figure(data: list[dict[str, Any]], x: str, y: str, **layout: Any) -> dict[str, Any]:
    base = {
        "margin": {"l": 50, "r": 10, "t": 64, "b": 40},
        "xaxis": {"title": {"text": x}},
        "yaxis": {"title": {"text": y}},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        "hovermode": "x unified",
        "uirevision": "kept",
    }
    for key, value in layout.items():
        base[key] = base[key] | value if isinstance(base.get(key), dict) else value
    return {"data": data, "layout": base}


def _line(name: str, x: list[Any], y: Values, colour: str, dash: str = "solid", **more: Any) -> dict[str, Any]:
    line = {"color": colour, "dash": dash, "width": 2.5 if dash == "solid" else 1.5}
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "line": line} | more


def error_curves(psnr: dict[str, Values], unroll: int) -> dict[str, Any]:
    """PSNR over the horizon, model and baselines; how far training unrolled is marked."""
    x = list(range(1, len(psnr["model"]) + 1))
    lines = [_line(NAMES[m], x, y, COLOURS[m], "solid" if m == "model" else "dash") for m, y in psnr.items()]
    mark = {"type": "line", "x0": unroll, "x1": unroll, "yref": "paper", "y0": 0, "y1": 1}
    note = {"x": unroll, "y": 0, "yref": "paper", "text": "trained to here", "showarrow": False, "xanchor": "left"}
    shapes = [mark | {"line": {"dash": "dot", "width": 1, "color": "#999"}}]
    return _figure(lines, "frames ahead", "PSNR, dB", shapes=shapes, annotations=[note | {"yanchor": "bottom"}])


def loss_curves(curves: dict[str, list[tuple[int, float]]]) -> dict[str, Any]:
    """Losses over training steps, on a log axis where all are positive."""
    positive = all(v > 0 for points in curves.values() for _, v in points)
    lines = [
        _line(NAMES.get(n, n), [s for s, _ in points], [v for _, v in points], COLOURS.get(n, "#999"))
        for n, points in curves.items()
    ]
    return _figure(lines, "training step", "loss", yaxis={"type": "log" if positive else "linear"})


def lag_profiles(profiles: dict[str, Values]) -> dict[str, Any]:
    """r(p) = D(p) / D(1) for each model, and for real film: a two-cycle dips at p = 2, 4, 6, 8."""
    lines = []
    for i, (name, profile) in enumerate(profiles.items()):
        real = name == "real film"
        colour = COLOURS["real film"] if real else PAIR[i % 2]
        x = list(range(1, len(profile) + 1))
        lines.append(_line(name, x, profile, colour, "dash" if real else "solid", mode="lines+markers"))
    return _figure(lines, "frames apart, p", "D(p) / D(1)", yaxis={"rangemode": "tozero"})


def step_sizes(sizes: dict[str, Values]) -> dict[str, Any]:
    """How far each frame is from the one before, and from the one before that: in a two-cycle the second nears 0."""
    lines = []
    for i, (name, values) in enumerate(sizes.items()):
        colour, dash = PAIR[i // 2 % 2], "solid" if i % 2 == 0 else "dot"
        lines.append(_line(name, list(range(1, len(values) + 1)), values, colour, dash))
    return _figure(lines, "frames ahead", "mean |difference|", yaxis={"rangemode": "tozero"})
