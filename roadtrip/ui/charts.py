"""Charts as pure functions from numbers to plotly figures (plain JSON). The app and notebooks show the same ones."""

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from ..errors import RoadtripError
from ..evaluation import compare_to_baselines
from ..study import ARMS, Row
from ..study.analysis import groups, measure_value

# Okabe and Ito's colours: told apart by colour-blind eyes, and on light and dark grounds. A recipe has one everywhere.
RECIPE = {"v1": "#E69F00", "v2": "#009E73", "v3-pair": "#D55E00", "v3-single": "#0072B2", "lstm": "#CC79A7"}
RECIPE["v4"] = "#6A3D9A"
RECIPE |= {"pair": RECIPE["v3-pair"], "single": RECIPE["v3-single"]}  # what the study calls them
OTHER, GREY = "#56B4E9", "#8C8C8C"
# what is no model is never a solid line: colour and dash
BASELINES = {"copy_last": (OTHER, "dash"), "linear": (GREY, "dot"), "mean_frame": (GREY, "dashdot")}
LOSSES = {"l1": "#D55E00", "generator": "#CC79A7", "discriminator": "#0072B2", "denoise": "#6A3D9A"}
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
BETTER = {
    "R": "0 in a flip, about 1.3 in real film",
    "N": "1 in noise; lower is better",
    "S": "1 is real film's",
    "B": "share of variance; 1 is two pictures and nothing else",
    "sharpness": "1 is real film's; below is blurred",
    "gain16": "higher is better",
}
MAX_POINTS = 400  # of a live curve: more can't be told apart, and all of them travel at every tick
DOTTED: dict[str, Any] = {"mode": "lines+markers"}
HEATMAP: dict[str, Any] = {"type": "heatmap", "showscale": False}
NAMES = {
    "copy_last": "copy the last frame",
    "linear": "linear extrapolation",
    "mean_frame": "mean training frame",
    "l1": "L1",
    "denoise": "denoising",
}
Values = Sequence[float | None]
Line = dict[str, Any]
Points = Sequence[tuple[float, float | None]]


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


def _line(name: str, y: Values, colour: str, dash: str = "solid", x: Values | None = None, **more: Any) -> Line:
    """x: of each value; without it they are counted from 1."""
    line = {"color": colour, "dash": dash, "width": 2.5 if dash == "solid" else 1.5}
    x = x or list(range(1, len(y) + 1))
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "line": line} | more


def _curve(name: str, points: Points, colour: str, dash: str = "solid", **more: Any) -> Line:
    """A line through evenly spaced ones of many points, the last always among them."""
    points = points[::-1][:: len(points) // MAX_POINTS + 1][::-1]
    return _line(name, [y for _, y in points], colour, dash, [x for x, _ in points], **more)


def colours(recipes: list[str]) -> list[str]:
    """A colour for each of the models that stand in one chart, by the names of their recipes: the recipe's own, also with
    a field changed ("v2, unroll=3"), or another where it has none or that is taken."""
    found: list[str] = []
    for recipe in recipes:
        own = RECIPE.get(recipe.partition(",")[0], OTHER)
        found.append(next((c for c in (own, OTHER, *RECIPE.values()) if c not in found), own))
    return found


def error_curves(psnr: Mapping[str, Values], deepest: int, name: str = "model", recipe: str = "") -> dict[str, Any]:
    """PSNR over the horizon, model and baselines; marked is how deep into its rollouts the model was trained, if known."""
    lines = [_line(name, psnr["model"], colours([recipe])[0])]
    lines += [_line(NAMES[m], y, *BASELINES[m]) for m, y in psnr.items() if m != "model"]
    line = {"dash": "dot", "width": 1, "color": "#999"}
    mark = {"type": "line", "x0": deepest, "x1": deepest, "yref": "paper", "y0": 0, "y1": 1, "line": line}
    note = {"x": deepest, "y": 0, "yref": "paper", "text": "trained to here", "showarrow": False}
    note |= {"xanchor": "left", "yanchor": "bottom"}
    marks = {"shapes": [mark] if deepest else [], "annotations": [note] if deepest else []}
    return _figure(lines, "frames ahead", "PSNR, dB", **marks)


def chart(figure: dict[str, Any]) -> Any:
    """A figure of this module as plotly shows it in a notebook's cell. Raises RoadtripError where plotly is not there."""
    try:
        from plotly.graph_objects import Figure
    except ModuleNotFoundError:
        raise RoadtripError("Charts need plotly: pip install 'roadtrip[app]'.") from None
    return Figure(figure)


def loss_curves(curves: Mapping[str, Sequence[tuple[int, float]]]) -> dict[str, Any]:
    """Losses over training steps, on a log axis where all are positive."""
    positive = all(v > 0 for points in curves.values() for _, v in points)
    lines = [_curve(NAMES.get(n, n), points, LOSSES.get(n, GREY)) for n, points in curves.items()]
    return _figure(lines, "training step", "loss", yaxis={"type": "log" if positive else "linear"})


def duel_curves(curves: Mapping[str, Mapping[str, Points]], recipes: list[str]) -> dict[str, Any]:
    """L1 and the discriminator's loss of several trainings over their steps, a colour for each training."""
    lines = [
        _curve(f"{name}: {NAMES.get(loss, loss)}", losses[loss], colour, dash)
        for (name, losses), colour in zip(curves.items(), colours(recipes))
        for loss, dash in (("l1", "solid"), ("discriminator", "dot"))
        if losses.get(loss)
    ]
    return _figure(lines, "training step", "loss", yaxis={"type": "log"})


def learning_curves(errors: list[tuple[int, dict[str, list[float]]]], horizons: tuple[int, ...]) -> dict[str, Any]:
    """PSNR over training steps at some horizons, and the best baseline at each; errors: (step, dB by method and
    horizon)."""
    lines = []
    for h, colour in zip(
        [h for h in horizons if h <= len(errors[-1][1]["model"])], (RECIPE["v2"], RECIPE["v1"], RECIPE["lstm"])
    ):
        points = [(step, psnr["model"][h - 1]) for step, psnr in errors]
        _, best = compare_to_baselines(errors[-1][1]).best[h - 1]
        ends = [(errors[0][0], best), (errors[-1][0], best)]
        lines.append(_curve(f"{h} ahead", points, colour, **DOTTED))
        lines.append(_curve(f"best baseline, {h} ahead", ends, colour, "dash", showlegend=h == horizons[0]))
    return _figure(lines, "training step", "PSNR on held-out film, dB")


def _beside_real(
    curves: Mapping[str, Values], recipes: list[str], real: Values | None
) -> list[tuple[str, Values, str, str]]:
    """(name, values, colour, dash) of each model's curve, and of real film's where there is one."""
    models = [(name, y, colour, "solid") for (name, y), colour in zip(curves.items(), colours(recipes))]
    return models + ([] if real is None else [("real film", real, GREY, "dash")])


def lag_profiles(profiles: Mapping[str, Values], recipes: list[str], real: Values | None = None) -> dict[str, Any]:
    """r(p) = D(p) / D(1) for each model, and for real film: a two-cycle dips at p = 2, 4, 6, 8."""
    lines = [_line(*curve, **DOTTED) for curve in _beside_real(profiles, recipes, real)]
    return _figure(lines, "frames apart, p", "D(p) / D(1)", yaxis={"rangemode": "tozero"})


def step_sizes(sizes: Mapping[str, tuple[Values, Values]], recipes: list[str]) -> dict[str, Any]:
    """How far each frame is from the one before, and from the one before that: in a two-cycle the second nears 0."""
    lines = [
        _line(f"{name}: D({p})", values, colour, dash)
        for (name, both), colour in zip(sizes.items(), colours(recipes))
        for p, dash, values in zip((1, 2), ("solid", "dot"), both)
    ]
    return _figure(lines, "frames ahead", "mean |difference|", yaxis={"rangemode": "tozero"})


def distances(matrices: dict[str, list[list[float]]]) -> dict[str, Any]:
    """How far every frame is from every other, side by side: a two-cycle is a chessboard, a drift a broad diagonal."""
    most = max(v for matrix in matrices.values() for row in matrix for v in row)
    share = 1 / len(matrices)
    data, axes, notes = [], {}, []
    for i, (name, matrix) in enumerate(matrices.items()):
        n, span = str(i + 1) if i else "", [i * share + 0.02, (i + 1) * share - 0.02]
        ends, z = list(range(1, len(matrix) + 1)), [[round(v, 4) for v in row] for row in matrix]
        cells = HEATMAP | {"name": name, "x": ends, "y": ends, "z": z, "xaxis": f"x{n}", "yaxis": f"y{n}"}
        cells |= {"zmin": 0, "zmax": most, "colorscale": "Cividis", "hovertemplate": "frames %{x} and %{y}: %{z:.3f}"}
        data.append(cells)
        axis = {"title": {"text": "frames ahead"}, "domain": span, "anchor": f"y{n}", "constrain": "domain"}
        axes[f"xaxis{n}"] = axis
        # downwards, and no further than there are frames, however narrow the page
        down = {"range": [len(matrix) + 0.5, 0.5], "anchor": f"x{n}", "scaleanchor": f"x{n}", "constrain": "domain"}
        axes[f"yaxis{n}"] = down | {"title": {"text": ""}}
        note = {"text": name, "x": sum(span) / 2, "y": 1.0, "xref": "paper", "yref": "paper", "showarrow": False}
        notes.append(note | {"yanchor": "bottom"})
    return _figure(data, "", "", annotations=notes, showlegend=False, hovermode="closest", **axes)


def spectra(powers: Mapping[str, Values], recipes: list[str], real: Values | None = None) -> dict[str, Any]:
    """The share of motion at each temporal frequency; the last point is alternation from frame to frame."""
    lines = [
        _line(name, shares, colour, dash, [(k + 1) / (2 * len(shares)) for k in range(len(shares))])
        for name, shares, colour, dash in _beside_real(powers, recipes, real)
    ]
    return _figure(lines, "cycles a frame (0.5 is a flip)", "share of motion", yaxis={"type": "log"})


def seeds_of_arms(rows: list[Row], measure: str) -> dict[str, Any]:
    """Every seed of every arm as a dot, by a measure of a study's rows of one film; real film and linear extrapolation
    are bands, where the measure has values for them. Seeds for which it is undefined (R of frozen rollouts) stand below
    the axis."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    known = [value for row in rows if (value := measure_value(row, measure)) is not None]
    highest = max([*known, 0.5])
    floor = -0.08 * highest
    height = {(row["arm"], row["seed"]): floor if (v := measure_value(row, measure)) is None else v for row in rows}
    places = {arm: _apart({k: y for k, y in height.items() if k[0] == arm}, highest, len(arms)) for arm in arms}
    data = []
    for verdict in dict.fromkeys(row["verdict"] for row in rows):
        colour, symbol = VERDICTS.get(verdict, CYCLE)
        members = [(row["arm"], row["seed"], measure_value(row, measure)) for row in rows if row["verdict"] == verdict]
        dots = {
            "x": [arms.index(arm) + places[arm][arm, seed] for arm, seed, _ in members],
            "y": [height[arm, seed] for arm, seed, _ in members],
            "customdata": [[arm, seed, "undefined" if v is None else round(v, 3)] for arm, seed, v in members],
            "hovertemplate": "%{customdata[0]}, seed %{customdata[1]}: %{customdata[2]}",
            "marker": {"color": colour, "symbol": symbol, "size": 9, "line": {"width": 2, "color": colour}},
        }
        data.append({"type": "scatter", "mode": "markers", "name": verdict} | dots)
    shapes = []
    for name, spread, colour in (
        ("real film, 5–95 %", rows[0]["real"]["bands"], GREY),
        ("linear extrapolation, all starts", rows[0]["linear"], OTHER),
    ):
        low, high = spread.get(measure, (math.inf, math.inf))
        if low < 1.5 * max([*known, 0.5]):  # a band far above would press all dots to the floor
            across = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": low, "y1": high, "layer": "below"}
            shapes.append(across | {"fillcolor": colour, "opacity": 0.22, "line": {"width": 1, "color": colour}})
            key = {"type": "scatter", "mode": "markers", "name": name, "x": [None], "y": [None]}
            data.append(key | {"marker": {"symbol": "square", "size": 12, "color": colour, "opacity": 0.5}})
    ticks = {"tickvals": list(range(len(arms))), "ticktext": arms, "tickangle": -40, "range": [-0.6, len(arms) - 0.4]}
    layout = {"shapes": shapes, "hovermode": "closest", "margin": {"b": 80}}
    return _figure(data, "", MEASURES[measure], xaxis=ticks, **layout)


def _apart(height: Mapping[Any, float], highest: float, columns: int) -> dict[Any, float]:
    """How far from the middle of its column each dot lies, in columns, so that none hides another: each takes the place
    nearest to the middle that is free at its height. A dot is 13 pixels wide in a chart of about 1000 × 220."""
    wide, high = 13 * columns / 1000, 13 / 220 * 1.1 * highest
    placed: list[tuple[float, float]] = []
    found = {}
    for key, y in sorted(height.items(), key=lambda item: (item[1], item[0])):
        steps = (sign * n * wide for n in range(len(height)) for sign in (1, -1))
        x = next(x for x in steps if all(abs(x - a) >= 0.99 * wide or abs(y - b) >= high for a, b in placed))
        placed.append((x, y))
        found[key] = x
    return found


def whole_study(tables: dict[str, list[Row]], usual: tuple[str, ...] = ()) -> dict[str, Any]:
    """How many seeds of every arm (downwards) oscillate in every table of runs (across, the longest first): "3/5" on a
    colour that is deeper the larger the share; empty where nothing was run. usual: left out of the names."""
    names = sorted(tables, key=lambda name: -len(tables[name]))
    cells = {(name, g.arm): g for name in names for g in groups(tables[name])}
    arms = [arm for arm in ARMS if any((name, arm) in cells for name in names)]
    shown = [[cells.get((name, arm)) for name in names] for arm in arms]
    ended = [[g and ", ".join(f"{n} {verdict}" for verdict, n in g.verdicts) for g in line] for line in shown]
    cell = HEATMAP | {
        "x": names,
        "y": arms,
        "z": [[g and g.share("oscillates") for g in line] for line in shown],
        "text": [[f"{g.count('oscillates')}/{len(g.seeds)}" if g else "" for g in line] for line in shown],
        "customdata": [[*zip(names, line)] for line in ended],
        "texttemplate": "%{text}",
        "textfont": {"color": "#111"},
        "hovertemplate": "%{y}, %{x}: %{customdata[1]}<extra></extra>",
        "colorscale": [[0, "#DCDCDC"], [1, VERDICTS["oscillates"][0]]],
    }
    cell |= {"zmin": 0, "zmax": 1, "xgap": 2, "ygap": 2, "hoverongaps": False}
    short = [reduce(lambda text, part: text.replace(part, ""), usual, name) for name in names]
    layout = {
        "xaxis": {"type": "category", "showgrid": False, "tickangle": -35, "tickvals": names, "ticktext": short},
        "yaxis": {"type": "category", "showgrid": False, "autorange": "reversed"},
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        "height": 160 + 22 * len(arms),
    }
    return _figure([cell], "", "", showlegend=False, hovermode="closest", **layout)


def onsets(rows: list[Row]) -> dict[str, Any]:
    """R of several runs over the rollout, in windows of 16 frames: where an oscillation sets in."""
    return _of_seeds(rows, [[(w["frames"][0] + 7.5, w["R"]) for w in row["onset"]] for row in rows], "frames ahead")


def training_curves(rows: list[Row]) -> dict[str, Any]:
    """R of several runs over their training steps, from one start: whether what a rollout does comes and goes as the
    networks train, which is another clock than the rollout's own."""
    curves = [[(check["step"], check["R"]) for check in row["training_curve"]] for row in rows]
    return _of_seeds(rows, curves, "training step")


def _of_seeds(rows: list[Row], curves: Sequence[Points], x: str) -> dict[str, Any]:
    shades = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
    seeds = [row["seed"] for row in rows]
    data = [_curve(f"seed {n}", points, shades[n % len(shades)], **DOTTED) for n, points in zip(seeds, curves)]
    along = [at for points in curves for at, _ in points]
    real = rows[0]["real"]["return_ratio"]
    data.append(_curve("real film", [(min(along), real), (max(along), real)], GREY, "dash"))
    return _figure(data, x, MEASURES["R"], yaxis={"rangemode": "tozero"})
