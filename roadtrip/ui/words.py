"""What a rollout does, in words with their numbers: verdicts and errors. Finds nothing itself; see oscillation.py."""

from ..evaluation import compare_to_baselines
from ..oscillation import Oscillation
from .charts import NAMES
from .tab import two_decimals


def describe(o: Oscillation) -> str:
    """A verdict and a sharpness."""
    step = "where real film stands still" if o.step_ratio is None else f"at {o.step_ratio:.0%} of real motion"
    moves = {
        "frozen": f"stands still ({step})",
        "oscillates": f"alternates between two pictures (R {two_decimals(o.return_ratio)})",
        "moves": f"keeps changing, {step}",
        "flickers": f"flickers more than real film (N {o.nyquist_excess:.1f}) but never returns",
        "switches between two modes": f"stays in one of two pictures, then the other (B {two_decimals(o.two_mode_share)})",
    }.get(o.verdict, f"repeats every {o.period} frames")
    sharp = o.sharpness_ratio
    if sharp is None:
        return moves
    if sharp < 0.8:
        return f"{moves}, blurred to {sharp:.0%} of real sharpness"
    if sharp > 1.8:
        return f"{moves}, {sharp:.1f} times as sharp as real film: noise, not detail"
    return moves


def who_flips(found: dict[str, Oscillation]) -> str:
    """One sentence for all: which of two rollouts, by their titles, return to the frame before last."""
    flips = [name for name, o in found.items() if o.verdict == "oscillates"]
    if not flips:
        return "Neither flips from this start: no frame returns to the one before last."
    if len(flips) == len(found):
        return "Both flip from this start: every second frame is the same picture again."
    return f"It flips: with the {flips[0]}, every second frame is the same picture again."


def beside_copying(psnr: dict[str, list[float]]) -> str:
    """One sentence for all: how far the model stays closer to real film than copying the last frame."""
    lost, n = compare_to_baselines(psnr).copy_last_wins, len(psnr["model"])
    if not lost:
        return f"Closer to the real road than copying the last frame in {_every(n)}."
    if len(lost) == n:
        return f"Copying the last frame beats it in {_every(n)}."
    if lost[0] == 1:
        return f"Copying the last frame beats it in the first frame, and in {len(lost)} of {n} in all."
    return (
        f"Closer to the real road than copying the last frame up to g{lost[0] + 1}; from g{lost[0] + 2} on, copying "
        f"beats it in {len(lost)} of {n}."
    )


def errors_in_words(psnr: dict[str, list[float]]) -> str:
    """The model's dB beside the best baseline's, and whether one of them stays ahead."""
    found = compare_to_baselines(psnr)
    best, dB = found.best[0]
    said = f"At g3 the model gets {psnr['model'][0]:.1f} dB (higher is closer), "
    said += f"the baseline to beat ({NAMES[best]}) {dB:.1f} dB."
    if found.overtaken and 1 < found.overtaken[0] < len(psnr["model"]):
        frame, baseline = found.overtaken
        said += f" From g{frame + 2} on, even “{NAMES[baseline]}” scores better."
    return said


def _every(n: int) -> str:
    return "the one frame there is real film for" if n == 1 else f"all {n} frames there is real film for"
