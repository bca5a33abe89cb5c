"""The public functions from a shell: python -m roadtrip and a command, see COMMANDS.

What the user got wrong is one sentence on standard error and exit code 2; `--json` prints one JSON object as the last
line of standard output, everything else goes to standard error.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

from tqdm import tqdm

from . import study
from .atomic import remove_leftovers
from .calibration import calibrate
from .checkpoint import CONFIG, MODEL, STATE, load, load_state, save, save_or_keep
from .endless import endless_row, measure_endless, sentence
from .errors import RoadtripError, tell
from .evaluation import HELD_OUT, HORIZON, N_STARTS, evaluate
from .export import rate_of, write
from .film import Film
from .hub import push_to_hub
from .model import NextFrame
from .recipes import RECIPES
from .rollout import rollout
from .sources import open_film
from .study.rows import to_json
from .train import find_device, train

COMMANDS = "import | train | calibrate | rollout | measure | study | push | app"


def main(arguments: list[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    try:
        result: dict[str, Any] = args.run(args)
    except RoadtripError as error:
        tell(str(error))
        return 2
    except KeyboardInterrupt:
        tell("Stopped.")
        return 130
    except BrokenPipeError:  # whoever read the progress has gone
        return 2
    if args.json:
        try:
            print(json.dumps(to_json(result), allow_nan=False), flush=True)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else it is tried again at the end
            tell(f"Cannot write the result to standard output: {error.strerror}.")
            return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    def parser(*parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return argparse.ArgumentParser(add_help=False, parents=parents)

    # options that several commands have
    device = parser()
    device.add_argument("--device", help="cpu or cuda; default: CUDA where it is there")
    frames = parser()
    frames.add_argument("--gap", help="frames between f1 f2 f3, or seconds of video as 0.5s; default: the film's own")
    size = "height×width of the frames, each divisible by 8"
    frames.add_argument("--size", help=f"{size}, as 72x128")
    film = parser(frames, device)
    kinds = "folder of stills, zip of stills, video, film file or scenery"
    film.add_argument("--film", action="append", required=True, help=f"{kinds}; repeatable")
    model = parser(film)
    where = "checkpoint folder, a name that ships (v4), or user/name on the Hugging Face Hub"
    model.add_argument("--checkpoint", required=True, help=where)
    model.add_argument("--horizon", type=int, default=HORIZON, help="frames to generate")

    top = argparse.ArgumentParser(prog="roadtrip", description="Drive on from two frames of a road trip.")
    commands = top.add_subparsers(required=True, metavar=COMMANDS)

    def command(run: Any, prose: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        sub = commands.add_parser(run.__name__.removeprefix("run_"), help=prose, description=prose, parents=parents)
        sub.set_defaults(run=run)
        sub.add_argument("--json", action="store_true", help="one JSON object as the last line of standard output")
        return sub

    sub = command(run_import, "Read stills or video once, into one film file.", frames)
    sub.add_argument("film", nargs="+", metavar="source", help=kinds)
    sub.add_argument("--out", required=True, help="the film file to write")

    sub = command(run_train, "Train a recipe on film and save a checkpoint.", film)
    sub.add_argument("--recipe", default="v1", help=", ".join(RECIPES))
    sub.add_argument("--seconds", type=float, help="how long to train (default: 60, without --steps)")
    sub.add_argument("--steps", type=int, help="how many steps to train in all, instead of seconds")
    sub.add_argument("--seed", type=int, default=0, help="of weights, clips and augmentation")
    sub.add_argument("--held-out-fraction", type=float, default=HELD_OUT, help="share at each drive's end to hold out")
    sub.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16")
    sub.add_argument(
        "--out", required=True, help="checkpoint folder to write; the same command goes on with what it holds"
    )
    sub.add_argument(
        "--save-every", type=float, default=30.0, metavar="SECONDS", help="save the unfinished run so often"
    )
    begin = "weights to begin from instead of random ones: a name that ships (v1), a folder, or user/name on the Hub"
    sub.add_argument("--start", help=begin)
    sub.add_argument("--resumable", action="store_true", help="save what --resume needs when it is finished, too")
    sub.add_argument("--resume", help="checkpoint folder of a resumable run to go on from")

    prose = "Set how much a checkpoint that draws its frames draws, by rollouts from the film that it was trained on."
    sub = command(run_calibrate, prose, film)
    sub.add_argument("--checkpoint", required=True, help=where)
    sub.add_argument("--out", required=True, help="checkpoint folder to write")

    sub = command(run_rollout, "Let a checkpoint drive on from a start frame, into a video or a picture.", model)
    sub.add_argument("--start", type=int, help="index of f1 in the film; default: in the middle of what was held out")
    sub.add_argument("--seed", type=int, default=0, help="of what a model that draws its frames draws")
    sub.add_argument("--temperature", type=float, default=1.0, help="of what it draws: below 1 calmer, above 1 wilder")
    sub.add_argument("--fps", type=float, default=8, help="frames a second of what is written")
    sub.add_argument("--scale", type=int, default=3, help="how many times larger the frames are written")
    sub.add_argument("--out", required=True, help="x.mp4, x.gif, x.webp or x.png (a strip)")

    sub = command(run_measure, "Errors over the horizon beside their baselines, and the oscillation measures.", model)
    part = sub.add_mutually_exclusive_group()
    part.add_argument("--held-out", action="store_true", help="measure what the checkpoint held out (the default)")
    part.add_argument("--all", action="store_true", help="measure the whole film")
    sub.add_argument("--most", type=int, help="at most so many starts, evenly spaced; all of 16,000 stills take hours")
    sub.add_argument("--endless", type=int, metavar="FRAMES", help="measure rollouts of so many frames too, from 64 on")
    sub.add_argument("--starts", type=int, default=N_STARTS, help="how many held-out starts these begin on")
    sub.add_argument("--last", type=int, metavar="FRAMES", help="measure only so many at their end, from 64 on")

    sub = command(run_study, "Train and measure arms × seeds × films into one table; finished runs are kept.", device)
    sub.add_argument("--arms", nargs="+", metavar="ARM", help="of the study; default: all")
    sub.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4], metavar="SEED")
    films = "PATH[:GAP] or scenery[:SEED[:GAP]]"
    sub.add_argument("--films", nargs="+", default=["scenery"], metavar="FILM", help=films)
    sub.add_argument("--steps", type=int, default=study.STEPS, help="training steps of each run")
    sub.add_argument("--size", default="{}x{}".format(*study.SIZE), help=size)
    sub.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE", help="another setting for all arms")
    sub.add_argument(
        "--endless", type=int, default=0, help="frames of rollouts to measure beside the usual 64, as 1000"
    )
    sub.add_argument("--jobs", type=int, help="runs at a time, a process each; default: one for each core")
    sub.add_argument("--ray", metavar="ADDRESS", help='a Ray cluster, or "local" for one on this machine')
    sub.add_argument("--runs", default="runs/study", help="folder that keeps finished runs and their checkpoints")
    out = "the table to add rows to; default: results.json in --runs"
    sub.add_argument("--out", help=f"{out}. Its rows are never run again, nor are those of the project's own table")

    sub = command(run_push, "Upload a checkpoint to the Hugging Face Hub, with a card of what is measured.", film)
    sub.add_argument("--checkpoint", required=True, help=where)
    sub.add_argument("--to", required=True, metavar="USER/NAME", help="the model on the Hub, made if it isn't there")
    sub.add_argument("--private", action="store_true", help="only you see it; else pictures of the film are public")
    sub.add_argument("--license", help='of the weights, as the Hub abbreviates it, "mit"')

    command(run_app, "Open the app in the browser; GRADIO_SERVER_PORT chooses the port.")
    return top


def run_import(args: argparse.Namespace) -> dict[str, Any]:
    _check_out(args.out)
    film = _film(args)
    film.save(args.out)
    summary = film.describe()
    tell(summary.sentence())
    return asdict(summary) | {"out": args.out, "fingerprint": film.fingerprint}


def run_train(args: argparse.Namespace) -> dict[str, Any]:
    _check_out(args.out, folder=True)
    for part in (MODEL, CONFIG, STATE):
        _check_out(Path(args.out) / part)
    find_device(args.device)
    command = {k: getattr(args, k) for k in ("steps", "seconds", "resume")}
    command |= {"start": args.start} if args.start else {}
    unbroken = _is_unfinished(args, command)
    seconds = 60.0 if args.seconds is None and args.steps is None else args.seconds
    film = _film(args)
    try:
        stream = train(
            args.recipe,
            film,
            seconds=seconds,
            steps=args.steps,
            seed=args.seed,
            held_out=args.held_out_fraction,
            start=None if unbroken else args.start,
            resume=args.out if unbroken else args.resume,
            unbroken=unbroken,
            device=args.device,
            dtype=args.dtype,
            preview_every=1e9,
        )
    except RoadtripError as error:
        raise _or_anew(error, args.out) if unbroken else error from None
    p: Any = None
    with _signals() as caught, tqdm(unit="step", file=sys.stderr) as bar:
        saved, cost = monotonic(), 0.0
        try:
            for p in stream:
                if caught:
                    break
                bar.total = p.steps or round(p.step + (p.seconds_left or 0) * p.steps_per_second)
                bar.set_postfix({k: f"{v:.4f}" for k, v in p.losses.items()}, refresh=False)
                with suppress(BrokenPipeError):  # of a log, say, that Ctrl-C ended first
                    bar.update(p.step - bar.n)
                if p.step != p.steps and monotonic() - saved > max(args.save_every, 20 * cost):
                    p.run.command, began = command, monotonic()
                    try:
                        save(args.out, p, resumable=True)
                    except RoadtripError as error:  # there may be room again when it ends
                        tell(str(error))
                    saved = monotonic()
                    cost = saved - began
        except RoadtripError:
            if p:  # the weights from before the loss was no longer a number
                p.run.command = None
                save_or_keep(args.out, p, args.resumable)
            raise
        unfinished = p.step != p.steps
        p.run.command = command if unfinished else None
        save_or_keep(args.out, p, args.resumable or unfinished)
    if unfinished:
        tell(f"Stopped after {p.step} steps; the same command goes on from there.")
        sys.exit(128 + caught[0])
    tell(f"Trained {p.recipe.name} for {p.step} steps with seed {p.seed}; the checkpoint is in {args.out}.")
    facts = p.model.provenance.to_dict()
    return {"out": args.out, "step": p.step, "losses": p.losses, "steps_per_second": p.steps_per_second} | {
        k: facts[k] for k in ("recipe", "seed", "film", "held_out", "dtype", "device", "versions", "start")
    }


def run_calibrate(args: argparse.Namespace) -> dict[str, Any]:
    _check_out(args.out, folder=True)
    model = _model(args)
    film = _film(args, model)
    rounds = calibrate(model, film, _held_out(model))
    if not rounds or not model.sampler:
        raise RoadtripError(
            f"There is nothing to calibrate: {args.checkpoint} does not draw its frames, or {film.name} is too short."
        )
    save(args.out, model)
    last, now = rounds[-1], model.sampler
    tell(
        f"Temperature {now.temperature:.3f} and carry {now.carry:.2f}; the last rollouts, at {last.temperature:.3f} and "
        f"{last.carry:.2f}, had S {last.S:.2f} and sharpness {last.sharpness:.2f}."
    )
    return {"temperature": now.temperature, "carry": now.carry, "rounds": [asdict(r) for r in rounds], "out": args.out}


def run_rollout(args: argparse.Namespace) -> dict[str, Any]:
    _check_out(args.out)
    model = _model(args)
    film = _film(args, model)
    start, where = args.start, "as asked"
    if start is None:
        starts, where = film.starts(2, "held_out", _held_out(model)), "in the held-out stretch"
        if not len(starts):
            starts, where = film.starts(2, "all"), "of the whole film, as no two frames of it are held out"
        start = int(starts[len(starts) // 2])
    last = len(film.frames) - film.gap - 1
    if not 0 <= start <= last:
        raise RoadtripError(f"There are no two frames at start {start}; choose from 0 to {last}.")
    f1, f2 = film.frames[start], film.frames[start + film.gap]
    frames = rollout(model, f1, f2, args.horizon, args.seed, args.temperature)[0]
    write(args.out, frames, fps=args.fps, scale=args.scale)
    fps = rate_of(args.out, args.fps)
    rounded = f" at {fps:.4g} frames a second, the nearest that a gif plays at" if fps != args.fps else ""
    tell(f"Wrote {args.horizon} generated frames to {args.out}{rounded}; they start at frame {start}, {where}.")
    return {"out": args.out, "start": start, "gap": film.gap, "horizon": args.horizon, "size": list(film.size)}


def run_measure(args: argparse.Namespace) -> dict[str, Any]:
    model = _model(args)
    film = _film(args, model)
    part = "all" if args.all else "held_out"
    with tqdm(unit="start", file=sys.stderr) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        measured = evaluate(model, film, args.horizon, part, _held_out(model), args.most, progress=progress)
    oscillation = measured.oscillation
    if oscillation:
        tell(f"On frames {args.horizon - oscillation.frames + 1}–{args.horizon} the rollout {oscillation.verdict}.")
    more: dict[str, Any] = {}
    if args.endless:
        if args.starts < 1:
            raise RoadtripError(f"--starts is {args.starts}; choose 1 or more.")
        each = measure_endless(model, film, args.endless, args.starts, held_out=_held_out(model), last=args.last)
        more["endless"] = endless_row(each)
        seen = "" if args.last is None else f", of which the last {each[0].frames} are measured"
        tell(f"Driving on for {args.endless} frames{seen}: {sentence(more['endless'])}")
    return (
        measured.to_dict() | more | {"part": part, "gap": film.gap, "film": film.name, "fingerprint": film.fingerprint}
    )


def run_study(args: argparse.Namespace) -> dict[str, Any]:
    out, size = Path(args.out or Path(args.runs) / "results.json"), _size(args.size)
    _check_out(args.runs, folder=True)
    _check_out(out)
    if args.ray in (None, "local"):
        find_device(args.device)
    jobs = [
        study.Job(arm, film, seed, args.steps, size, tuple(sorted(args.set)), args.endless)
        for film in args.films
        for seed in args.seeds
        for arm in args.arms or study.ARMS
    ]
    done, missing = study.plan(jobs, study.read_results(out) + study.read_results(study.PUBLISHED))
    study.add_rows(out, done)
    with tqdm(initial=len(done), total=len(done) + len(missing), unit="run", file=sys.stderr) as bar:
        for row in study.study(missing, args.runs, args.device, args.jobs, args.ray):
            study.add_rows(out, [row])
            done.append(row)
            R = "–" if row["R"] is None else f"{row['R']:.2f}"
            bar.set_postfix_str(f"{row['arm']} on {row['film']}, seed {row['seed']}: {row['verdict']}, R {R}")
            bar.update()
    return {"out": str(out), "runs": done}


def run_push(args: argparse.Namespace) -> dict[str, Any]:
    model = _model(args)
    film = _film(args, model)
    address = push_to_hub(model, args.to, film, private=args.private, license=args.license)
    tell(f"Uploaded to {address}.")
    return {"address": address}


def run_app(args: argparse.Namespace) -> dict[str, Any]:
    from . import app

    app()
    return {}


def _is_unfinished(args: argparse.Namespace, command: dict[str, Any]) -> bool:
    """Whether --out holds what this command has trained so far. Raises RoadtripError where another one goes on with it."""
    if not (Path(args.out) / STATE).exists():
        return False
    try:
        begun = load_state(args.out)[1].get("command")
    except RoadtripError as error:
        raise _or_anew(error, args.out) from None
    explicit = args.resume and Path(args.resume).resolve() == Path(args.out).resolve()
    if begun and begun != command and not explicit:
        other = " or ".join(f"--{name}" for name in command)
        raise _or_anew(
            RoadtripError(f"{args.out} holds an unfinished training with another {other}; use that"), args.out
        )
    return begun == command


def _or_anew(error: RoadtripError, out: str) -> RoadtripError:
    return RoadtripError(f"{str(error).removesuffix('.')}, or delete {STATE} in {out} to start anew.")


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals to end that came so far; those that are ignored, as under nohup, stay so."""
    caught: list[int] = []
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, lambda number, _: caught.append(number))
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _model(args: argparse.Namespace) -> NextFrame:
    return load(args.checkpoint, find_device(args.device or "cpu"))


def _held_out(model: NextFrame) -> float:
    """The share the model was trained without; a checkpoint that doesn't say is measured on the last fifth."""
    return model.provenance.held_out if model.provenance else HELD_OUT


def _film(args: argparse.Namespace, model: NextFrame | None = None) -> Film:
    size = _size(args.size) if args.size else model.size if model else (72, 128)
    gap = model.provenance.film.gap if args.gap is None and model and model.provenance else args.gap
    with tqdm(unit="frame", file=sys.stderr, leave=False) as bar:

        def progress(done: int, total: int | None, note: str) -> None:
            bar.total = total
            bar.set_description(note, refresh=False)
            bar.update(done - bar.n)

        film = open_film(args.film, size=size, gap=gap, progress=progress)
    for name in film.skipped:
        tell(f"Skipped {name}: it could not be read.")
    for note in () if args.run is run_import else film.notes:  # import's own sentence has them
        tell(note)
    return film


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(n) for n in text.lower().replace("×", "x").split("x"))
    except ValueError:
        raise RoadtripError(f"{text!r} is not a size; write height x width, as 72x128.") from None
    return height, width


def _check_out(name: str | Path, folder: bool = False) -> None:
    """Removes what killed writes left where a file (or folder) of this name is to be written. Raises RoadtripError where
    it can't be, before the work for it begins."""
    path = Path(name).absolute()
    try:
        if (path.exists() or (folder and path.is_symlink())) and not (path.is_dir() if folder else path.is_file()):
            kind = "not a folder" if folder else "a folder" if path.is_dir() else "not a file"
            raise RoadtripError(f"{name} is {kind}; choose another name to write to.")
        there = next(p for p in ([path] if folder else []) + [*path.parents] if p.exists())
        if there.is_dir():
            remove_leftovers(there)
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(4096))  # an empty one finds room on a full disk
    except OSError as error:
        raise RoadtripError(f"Cannot write {name}: {error.strerror}. Choose a folder that can be written.") from None


if __name__ == "__main__":
    sys.exit(main())
