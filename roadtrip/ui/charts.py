"""Charts as pure functions from numbers to plotly figures (plain JSON). The app and notebooks show the same ones."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

from ..evaluation import compare_to_baselines
from ..study import ARMS, Row
from ..study.analysis import groups, measure_value

# Okabe and Ito's colours: told apart by colour-blind eyes, and on light and dark grounds. A recipe has one everywhere.
RECIPE = {"v1": "#E69F00", "v2": "#009E73", "v3-pair": "#D55E00", "v3-single": "#0072B2", "lstm": "#CC79A7"}
RECIPE |= {"pair": RECIPE["v3-pair"], "single": RECIPE["v3-single"]}  # what the study calls them
OTHER, GREY = "#56B4E9", "#8C8C8C"
# what is no model is never a solid line: colour and dash
BASELINES = {"copy_last": (OTHER, "dash"), "linear": (GREY, "dot"), "mean_frame": (GREY, "dashdot")}
LOSSES = {"l1": "#D55E00", "generator": "#CC79A7", "discriminator": "#0072B2"}
# verdicts: colour and shape, so that a dot says what it is without its colour too
VERDICTS = {
    "moves": ("#009E73", "circle"),
    "frozen": (GREY, "line-ew-open"),
    "oscillates": ("#D55E00", "diamond"),
    "flickers": ("#E69F00", "triangle-up"),
    "switches between two modes": ("#0072B2", "square"),
}
CYCLE = ("#CC79A7", "pentagon")
MEASURES = {  # of a study's rows
    "R": "return ratio R",
    "N": "Nyquist excess N",
    "S": "step ratio S",
    "B": "two-mode share B",
    "sharpness": "sharpness ratio",
    "gain16": "dB over the best baseline, 16 ahead",
}
MAX_POINTS = 400  # of a live curve: more can't be told apart, and all of them travel at every tick
NAMES = {
    "copy_last": "copy the last frame",
    "linear": "linear extrapolation",
    "mean_frame": "mean training frame",
    "l1": "L1",
}
Values = list[float | None]


def _figure(data: list[dict[str, Any]], x: str, y: str, **layout: Any) -> dict[str, Any]:
    base = {
        "margin": {"l": 50, "r": 10, "t": 24, "b": 40},
        "showlegend": True,
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


def colours(recipes: list[str]) -> list[str]:
    """A colour for each of the models that stand in one chart, by the names of their recipes."""
    found: list[str] = []
    for recipe in recipes:
        colour = _colour(recipe)
        found.append(OTHER if colour in found else colour)
    return found


def _colour(recipe: str) -> str:
    """A recipe's colour; one with a field changed ("v2, unroll=3") keeps that of the recipe it was made from."""
    return RECIPE.get(recipe.partition(",")[0], OTHER)


def error_curves(psnr: dict[str, Values], deepest: int, name: str = "model", recipe: str = "") -> dict[str, Any]:
    """PSNR over the horizon, model and baselines; marked is how deep into its rollouts the model was trained, if known."""
    x = list(range(1, len(psnr["model"]) + 1))
    lines = [_line(name, x, psnr["model"], _colour(recipe))]
    lines += [_line(NAMES[m], x, y, *BASELINES[m]) for m, y in psnr.items() if m != "model"]
    mark = {"type": "line", "x0": deepest, "x1": deepest, "yref": "paper", "y0": 0, "y1": 1}
    note = {"x": deepest, "y": 0, "yref": "paper", "text": "trained to here", "showarrow": False, "xanchor": "left"}
    shapes = [mark | {"line": {"dash": "dot", "width": 1, "color": "#999"}}] * bool(deepest)
    notes = [note | {"yanchor": "bottom"}] * bool(deepest)
    return _figure(lines, "frames ahead", "PSNR, dB", shapes=shapes, annotations=notes)


def loss_curves(curves: dict[str, list[tuple[int, float]]]) -> dict[str, Any]:
    """Losses over training steps, on a log axis where all are positive."""
    positive = all(v > 0 for points in curves.values() for _, v in points)
    lines = [
        _line(NAMES.get(n, n), [s for s, _ in points], [v for _, v in points], LOSSES.get(n, GREY))
        for n, points in ((n, _thinned(points)) for n, points in curves.items())
    ]
    return _figure(lines, "training step", "loss", yaxis={"type": "log" if positive else "linear"})


def duel_curves(curves: dict[str, dict[str, list[tuple[int, float]]]], recipes: list[str]) -> dict[str, Any]:
    """L1 and the discriminator's loss of several trainings over their steps, a colour for each training."""
    lines = []
    for (name, losses), colour in zip(curves.items(), colours(recipes)):
        for loss, dash in (("l1", "solid"), ("discriminator", "dot")):
            points = _thinned(losses.get(loss, []))
            if points:
                title = f"{name}: {NAMES.get(loss, loss)}"
                lines.append(_line(title, [s for s, _ in points], [v for _, v in points], colour, dash))
    return _figure(lines, "training step", "loss", yaxis={"type": "log"})


def learning_curves(errors: list[tuple[int, dict[str, list[float]]]], horizons: tuple[int, ...]) -> dict[str, Any]:
    """PSNR over training steps at some horizons, and the best baseline at each; errors: (step, dB by method and
    horizon)."""
    lines = []
    for h, colour in zip(horizons, (RECIPE["v2"], RECIPE["v1"], RECIPE["lstm"])):
        points = _thinned([(step, psnr["model"][h - 1]) for step, psnr in errors])
        _, best = compare_to_baselines(errors[-1][1]).best[h - 1]
        lines.append(_line(f"{h} ahead", [s for s, _ in points], [v for _, v in points], colour, mode="lines+markers"))
        ends = [errors[0][0], errors[-1][0]]
        lines.append(
            _line(f"best baseline, {h} ahead", ends, [best, best], colour, "dash", showlegend=h == horizons[0])
        )
    return _figure(lines, "training step", "PSNR on held-out film, dB")


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Evenly spaced ones of many points, the last always among them."""
    return points[::-1][:: len(points) // MAX_POINTS + 1][::-1]


def lag_profiles(profiles: dict[str, Values], recipes: list[str], real: Values | None = None) -> dict[str, Any]:
    """r(p) = D(p) / D(1) for each model, and for real film: a two-cycle dips at p = 2, 4, 6, 8."""
    lines = [
        _line(name, list(range(1, len(profile) + 1)), profile, colour, mode="lines+markers")
        for (name, profile), colour in zip(profiles.items(), colours(recipes))
    ]
    if real is not None:
        lines.append(_line("real film", list(range(1, len(real) + 1)), real, GREY, "dash", mode="lines+markers"))
    return _figure(lines, "frames apart, p", "D(p) / D(1)", yaxis={"rangemode": "tozero"})


def step_sizes(sizes: dict[str, tuple[Values, Values]], recipes: list[str]) -> dict[str, Any]:
    """How far each frame is from the one before, and from the one before that: in a two-cycle the second nears 0."""
    lines = []
    for (name, both), colour in zip(sizes.items(), colours(recipes)):
        for p, dash, values in zip((1, 2), ("solid", "dot"), both):
            lines.append(_line(f"{name}: D({p})", list(range(1, len(values) + 1)), values, colour, dash))
    return _figure(lines, "frames ahead", "mean |difference|", yaxis={"rangemode": "tozero"})


def distances(matrices: dict[str, list[list[float]]]) -> dict[str, Any]:
    """How far every frame is from every other, side by side: a two-cycle is a chessboard, a drift a broad diagonal."""
    most = max(v for matrix in matrices.values() for row in matrix for v in row)
    share = 1 / len(matrices)
    data, axes, notes = [], {}, []
    for i, (name, matrix) in enumerate(matrices.items()):
        n = "" if i == 0 else str(i + 1)
        span = [i * share + 0.02, (i + 1) * share - 0.02]
        ends = list(range(1, len(matrix) + 1))
        data.append(
            {
                "type": "heatmap",
                "z": [[round(v, 4) for v in row] for row in matrix],
                "x": ends,
                "y": ends,
                "name": name,
                "xaxis": f"x{n}",
                "yaxis": f"y{n}",
            }
            | {"zmin": 0, "zmax": most, "colorscale": "Cividis", "showscale": False}
            | {"hovertemplate": "frames %{x} and %{y}: %{z:.3f}"}
        )
        axes[f"xaxis{n}"] = {
            "domain": span,
            "title": {"text": "frames ahead"},
            "anchor": f"y{n}",
            "constrain": "domain",
        }
        # downwards, and no further than there are frames, however narrow the page
        axes[f"yaxis{n}"] = {"anchor": f"x{n}", "scaleanchor": f"x{n}", "title": {"text": ""}} | {
            "range": [len(matrix) + 0.5, 0.5],
            "constrain": "domain",
        }
        notes.append(
            {"text": name, "x": sum(span) / 2, "y": 1.0, "xref": "paper", "yref": "paper", "showarrow": False}
            | {"yanchor": "bottom"}
        )
    return _figure(data, "", "", annotations=notes, showlegend=False, hovermode="closest", **axes)


def spectra(powers: dict[str, list[float]], recipes: list[str], real: list[float] | None = None) -> dict[str, Any]:
    """The share of motion at each temporal frequency; the last point is alternation from frame to frame."""

    def line(name: str, shares: list[float], colour: str, dash: str = "solid") -> dict[str, Any]:
        return _line(name, [(k + 1) / (2 * len(shares)) for k in range(len(shares))], [*shares], colour, dash)

    lines = [line(n, p, colour) for (n, p), colour in zip(powers.items(), colours(recipes))]
    if real is not None:
        lines.append(line("real film", real, GREY, "dash"))
    return _figure(lines, "cycles a frame (0.5 is a flip)", "share of motion", yaxis={"type": "log"})


def seeds_of_arms(rows: list[Row], measure: str) -> dict[str, Any]:
    """Every seed of every arm as a dot, by a measure of a study's rows of one film; real film and linear extrapolation
    are bands, where the measure has values for them. Seeds for which it is undefined (R of frozen rollouts) stand below
    the axis."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    values = {(row["arm"], row["seed"]): measure_value(row, measure) for row in rows}
    known = [value for value in values.values() if value is not None]
    floor = -0.08 * max([*known, 0.5])
    data = []
    for verdict in dict.fromkeys(row["verdict"] for row in rows):
        colour, symbol = VERDICTS.get(verdict, CYCLE)
        members = [row for row in rows if row["verdict"] == verdict]
        heights = [values[row["arm"], row["seed"]] for row in members]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": verdict,
                # seeds side by side, so that equal values don't hide each other
                "x": [arms.index(row["arm"]) + 0.12 * (row["seed"] % 5 - 2) for row in members],
                "y": [floor if height is None else height for height in heights],
                "customdata": [
                    [row["arm"], row["seed"], "undefined" if height is None else round(height, 3)]
                    for row, height in zip(members, heights)
                ],
                "hovertemplate": "%{customdata[0]}, seed %{customdata[1]}: %{customdata[2]}",
                "marker": {"color": colour, "symbol": symbol, "size": 9, "line": {"width": 2, "color": colour}},
            }
        )
    bands = [("real film, 5–95 %", rows[0]["real"]["bands"], GREY, "right")]
    bands.append(("linear extrapolation, all starts", rows[0]["linear"], OTHER, "left"))
    shapes, notes = [], []
    for name, spread, colour, side in bands:
        low, high = spread.get(measure, (math.inf, math.inf))
        if low < 1.5 * max([*known, 0.5]):  # a band far above would press all dots to the floor
            across = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": low, "y1": high, "layer": "below"}
            shapes.append(across | {"fillcolor": colour, "opacity": 0.22, "line": {"width": 1, "color": colour}})
            note = {"xref": "paper", "x": float(side == "right"), "y": high, "text": name, "showarrow": False}
            notes.append(note | {"xanchor": side, "yanchor": "bottom", "font": {"color": colour}})
    ticks = {"tickvals": list(range(len(arms))), "ticktext": arms, "tickangle": -40, "range": [-0.6, len(arms) - 0.4]}
    layout = {"shapes": shapes, "annotations": notes, "hovermode": "closest", "margin": {"b": 80}}
    return _figure(data, "", MEASURES[measure], xaxis=ticks, **layout)


def whole_study(tables: dict[str, list[Row]], usual: tuple[str, ...] = ()) -> dict[str, Any]:
    """How many seeds of every arm (downwards) oscillate in every table of runs (across, the longest first): "3/5" on a
    colour that is deeper the larger the share; empty where nothing was run. usual: left out of the names."""
    names = sorted(tables, key=lambda name: -len(tables[name]))
    cells = {(name, g.arm): g for name in names for g in groups(tables[name])}
    arms = [arm for arm in ARMS if any((name, arm) in cells for name in names)]
    shown = [[cells.get((name, arm)) for name in names] for arm in arms]
    ended = [[g and ", ".join(f"{n} {verdict}" for verdict, n in g.verdicts) for g in line] for line in shown]
    cell = {
        "type": "heatmap",
        "x": names,
        "y": arms,
        "z": [[g and g.share("oscillates") for g in line] for line in shown],
        "text": [[f"{g.count('oscillates')}/{len(g.seeds)}" if g else "" for g in line] for line in shown],
        "customdata": [[*zip(names, line)] for line in ended],
        "texttemplate": "%{text}",
        "hovertemplate": "%{y}, %{x}: %{customdata[1]}<extra></extra>",
        "hoverongaps": False,
        "colorscale": [[0, "#DCDCDC"], [1, VERDICTS["oscillates"][0]]],
        "zmin": 0,
        "zmax": 1,
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
    }
    short = [reduce(lambda text, part: text.replace(part, ""), usual, name) for name in names]
    across = {"type": "category", "showgrid": False, "tickangle": -35, "tickvals": names, "ticktext": short}
    down = {"type": "category", "showgrid": False, "autorange": "reversed"}
    return _figure(
        [cell],
        "",
        "",
        xaxis=across,
        yaxis=down,
        showlegend=False,
        hovermode="closest",
        plot_bgcolor="rgba(0, 0, 0, 0)",
        height=160 + 22 * len(arms),
    )


def onsets(rows: list[Row]) -> dict[str, Any]:
    """R of several runs over the rollout, in windows of 16 frames: where an oscillation sets in."""
    lines = [([w["frames"][0] + 7.5 for w in row["onset"]], [w["R"] for w in row["onset"]], row) for row in rows]
    return _of_seeds(lines, "frames ahead")


def training_curves(rows: list[Row]) -> dict[str, Any]:
    """R of several runs over their training steps, from one start: whether what a rollout does comes and goes as the
    networks train, which is another clock than the rollout's own."""
    lines = [
        ([look["step"] for look in row["training_curve"]], [look["R"] for look in row["training_curve"]], row)
        for row in rows
    ]
    return _of_seeds(lines, "training step")


def _of_seeds(lines: list[tuple[list[float], Values, Row]], x: str) -> dict[str, Any]:
    shades = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
    data = [
        _line(f"seed {row['seed']}", xs, ys, shades[row["seed"] % len(shades)], mode="lines+markers")
        for xs, ys, row in lines
    ]
    ends = [min(v for xs, _, _ in lines for v in xs), max(v for xs, _, _ in lines for v in xs)]
    real = lines[0][2]["real"]["return_ratio"]
    data.append(_line("real film", ends, [real, real], GREY, "dash"))
    return _figure(data, x, MEASURES["R"], yaxis={"rangemode": "tozero"})
