"""`python -m bench.browser`: what a visitor waits for, in Chromium, and what the app takes from a training.

Slider to new pixels (128 frames × 3 views) with the server idle and while a training runs, in milliseconds and in display
frames measured in the same page; the first moving picture, and what was loaded for it; an example, another start, and
stills of one's own from the drop to the first training step; steps that the app trains in some seconds beside the same run
in a process without it. --before TREE measures what a visitor waits for in another checkout first, in the same run. Needs
the test extra and Chromium; close everything else first.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
QUIET = ["no-sandbox", "headless", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"]
QUIET += ["disable-background-networking", "disable-component-update"]
WARM = float(os.environ.get("BENCH_WARM", 15))  # seconds
PLAYER = "#rt-scrub-player [data-testid=player]"
SLIDE = """async ({player, times}) => {
  const root = document.querySelector(player), slider = root.querySelector('[data-testid=player-slider]');
  const shown = () => new Promise(resolve => requestAnimationFrame(() => {  // after the next paint
    const channel = new MessageChannel();
    channel.port1.onmessage = () => resolve(performance.now());
    channel.port2.postMessage(0);
  }));
  const took = [], frames = [];
  let last = await shown();
  for (let i = 0; i < 60; i++) { const now = await shown(); frames.push(now - last); last = now; }
  for (let i = 0; i < times; i++) {
    await new Promise(resolve => setTimeout(resolve, 20 + 37 * Math.random()));
    const began = performance.now();
    slider.value = (37 * i + 11) % +root.dataset.frames;
    slider.dispatchEvent(new Event('input'));
    took.push(await shown() - began);
  }
  return {took, frame: frames.sort((a, b) => a - b)[30]};
}"""
# when the player's first frame was painted, in ms after the address was opened
FIRST = """document.addEventListener('rt-frame', () => requestAnimationFrame(() => setTimeout(() => {
  window.first = performance.now();
})), {once: true});"""
FETCHED = "performance.getEntries().filter(e => e.transferSize).map(e => [e.name, e.transferSize])"
SERVE = """
import app
_, address, _ = app.launch(prevent_thread_lock=True, quiet=True)
print(address, flush=True)
import sys; sys.stdin.read(); import os; os._exit(0)
"""
# what the app does for a training, without the app
ALONE = """
import roadtrip as rt
film = rt.open_film("scenery")
*_, p = rt.train("{recipe}", film, seconds={seconds}, seed=0)
print(p.step)
"""


class Served:
    """The app in a process of its own, as a visitor meets it."""

    def __init__(self, tree: Path = ROOT):
        self.tree = tree

    def __enter__(self) -> str:
        how: dict[str, Any] = {"cwd": self.tree, "env": os.environ | {"PYTHONPATH": str(self.tree)}}
        command = [sys.executable, "-c", SERVE]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **how)
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def __exit__(self, *_: object) -> None:
        self.process.kill()


def slides(page: Any, what: str) -> None:
    found = page.evaluate(SLIDE, {"player": PLAYER, "times": 200})
    took, frame = sorted(found["took"]), found["frame"]
    middle, late = statistics.median(took), took[int(0.95 * len(took))]
    print(
        f"slider to new pixels, {what:18} median {middle:6.1f} ms ({middle / frame:4.2f} display frames of {frame:.1f} ms)"
        f"   p95 {late:6.1f} ms ({late / frame:4.2f})",
        flush=True,
    )


def first_picture(browser: Any, address: str) -> None:
    took, loaded = [], 0
    for _ in range(5):
        page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()  # with nothing cached
        page.add_init_script(FIRST)
        page.goto(address, wait_until="commit")
        page.wait_for_function("window.first", timeout=90_000)
        took.append(page.evaluate("window.first"))
        loaded = beside(page)
        page.close()
    print(
        f"first moving picture {statistics.median(took):.0f} ms after the address was opened "
        f"({min(took):.0f} to {max(took):.0f}, {len(took)} visits); loaded by then beside Gradio's and Plotly's own "
        f"files: {loaded / 1e6:.2f} MB",
        flush=True,
    )


def waits(browser: Any, address: str) -> None:
    """What a visitor waits for after a click, in seconds: medians of the clicks."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(address)
    shown = "document.querySelector('#rt-{}-player [data-testid=player]')"
    page.wait_for_function(f"{shown.format('compare')}?.dataset.frames > 1", timeout=90_000)
    page.wait_for_timeout(8000)

    def clicked(button: Any, tab: str) -> float:
        player = shown.format(tab)
        before = page.evaluate(f"+{player}.dataset.loads")
        began = time.perf_counter()
        button.click()
        page.wait_for_function(f"+{player}.dataset.loads > {before}", timeout=90_000, polling=10)
        return time.perf_counter() - began

    pictures = page.locator("#rt-examples button")  # or, as it was before, a button a match
    names = ("Where it flips", "Stays a road (blurry)", "v1 vs v2", "LSTM vs v2")
    examples = [pictures.nth(i) for i in (1, 2, 3, 0)] if pictures.count() else []
    examples = examples or [page.get_by_role("button", name=name, exact=True) for name in names]
    took = [clicked(example, "compare") for example in examples]
    page.get_by_role("tab", name="Scrub").click()
    page.wait_for_function("document.querySelectorAll('#rt-starts button').length == 12", timeout=90_000)
    page.wait_for_timeout(4000)
    starts = [clicked(page.locator("#rt-starts button").nth(i), "scrub") for i in (3, 6, 9)]
    print(
        f"an example: {statistics.median(took):.2f} s ({min(took):.2f} to {max(took):.2f})   another start: "
        f"{statistics.median(starts):.2f} s ({min(starts):.2f} to {max(starts):.2f})",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        drop(page, stills(Path(folder)))


def stills(folder: Path) -> list[str]:
    """Sixty stills of a rendered road, as a visitor's own."""
    from roadtrip import open_film
    from roadtrip.frames import images

    for t, picture in enumerate(images(open_film("scenery:3", size=(144, 256)).frames[:60])):
        picture.save(folder / f"{t:02}.jpg")
    return sorted(map(str, folder.iterdir()))


def drop(page: Any, files: list[str]) -> None:
    page.get_by_role("tab", name="Train").click()
    page.wait_for_timeout(4000)
    fold, actions = page.get_by_role("button", name=re.compile(r"^Your own film\W*$")), 2
    began = time.perf_counter()
    if fold.count():  # as it was before
        fold.click()
        page.wait_for_timeout(500)
        actions += 2
    page.locator("#rt-tab-train input[type=file], input[type=file][multiple]").first.set_input_files(files)
    if fold.count():
        page.locator(".file").nth(59).wait_for(timeout=90_000)  # uploaded all of them
        page.get_by_role("button", name="Use this film").click()
    page.wait_for_function("document.body.innerText.includes('60 frames')", timeout=90_000, polling=20)
    page.locator("#rt-start").click()
    page.wait_for_function(
        "/step \\d+/.test(document.querySelector('#rt-status').innerText)", timeout=90_000, polling=20
    )
    print(f"60 stills, from the drop to training: {time.perf_counter() - began:.2f} s, {actions} actions", flush=True)
    page.locator("#rt-stop").click()


def beside(page: Any) -> int:
    """Bytes that this page has fetched, but for Gradio's and Plotly's own files."""
    theirs = ("/assets/", "/static/", "plotly", "data:")  # and what was in an answer already
    return sum(n for url, n in page.evaluate(FETCHED) if not any(part in url for part in theirs))


def steps_in_the_app(address: str, recipe: str, seconds: float) -> int:
    from gradio_client import Client

    status, *_ = Client(address, verbose=False).predict(
        "the rendered road", "", recipe, "", seconds, 0, api_name="/train"
    )
    return int(status.split("step ")[1].split()[0])


def steps_alone(recipe: str, seconds: float) -> int:
    code = ALONE.format(recipe=recipe, seconds=seconds)
    return int(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.browser", description=__doc__)
    parser.add_argument("--pairs", type=int, default=3, help="pairs of trainings, in the app and without it")
    parser.add_argument("--seconds", type=float, default=20, help="of each of them")
    parser.add_argument("--recipe", default="v1")
    parser.add_argument("--before", type=Path, help="another checkout, whose waits are measured first")
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if chromium is None:
        parser.exit(2, "There is no Chromium on the PATH.\n")
    launched = {"executable_path": chromium, "args": [f"--{a}" for a in QUIET]}
    if args.before:
        with Served(args.before.resolve()) as address, sync_playwright() as playwright:
            time.sleep(WARM)
            browser = playwright.chromium.launch(**launched)
            print("before:")
            first_picture(browser, address)
            waits(browser, address)
            browser.close()
        print("after:")
    with Served() as address, sync_playwright() as playwright:
        time.sleep(WARM)  # what the first visit shows is made meanwhile, as on a server that has been up for a while
        browser = playwright.chromium.launch(**launched)
        first_picture(browser, address)
        waits(browser, address)
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.goto(f"{address}?tab=scrub&horizon=128")
        page.wait_for_function(f"document.querySelector('{PLAYER}')?.dataset.frames == 128", timeout=90_000)
        page.wait_for_timeout(4000)
        slides(page, "server idle")
        trainer = browser.new_page(viewport={"width": 1440, "height": 1000})
        trainer.goto(f"{address}?tab=train")
        trainer.wait_for_timeout(4000)
        trainer.locator("#rt-start").click()
        trainer.wait_for_function("/step \\d+/.test(document.querySelector('#rt-status').innerText)", timeout=90_000)
        page.bring_to_front()
        slides(page, "while one trains")
        browser.close()
    ratios = []
    for pair in range(args.pairs):
        with Served() as address:
            time.sleep(15)
            here = steps_in_the_app(address, args.recipe, args.seconds)
        alone = steps_alone(args.recipe, args.seconds)
        ratios.append(here / alone)
        print(
            f"{args.recipe} for {args.seconds:g} s, pair {pair + 1}: {here} steps in the app, {alone} without it: "
            f"{ratios[-1]:.2f}",
            flush=True,
        )
    if ratios:
        print(
            f"{args.recipe}: the app trains {statistics.median(ratios):.2f} of the steps (median of {args.pairs} pairs)"
        )


if __name__ == "__main__":
    main()
