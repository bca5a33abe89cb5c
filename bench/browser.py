"""`python -m bench.browser`: what a visitor waits for, in Chromium, and what the app takes from a training.

Slider to new pixels (128 frames × 3 views) with the server idle and while a training runs, in milliseconds and in display
frames measured in the same page; the first moving picture, and what was loaded for it; steps that the app trains
in some seconds beside the same run in a process without it. Needs the test extra and Chromium; close everything else first.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
QUIET = ["no-sandbox", "headless", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"]
QUIET += ["disable-background-networking", "disable-component-update"]
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

    def __enter__(self) -> str:
        command = [sys.executable, "-c", SERVE]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
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
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if chromium is None:
        parser.exit(2, "There is no Chromium on the PATH.\n")
    with Served() as address, sync_playwright() as playwright:
        time.sleep(15)  # what the first visit shows is made meanwhile, as on a server that has been up for a while
        browser = playwright.chromium.launch(executable_path=chromium, args=[f"--{a}" for a in QUIET])
        first_picture(browser, address)
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
    for recipe in [args.recipe]:
        ratios = []
        for pair in range(args.pairs):
            with Served() as address:
                time.sleep(15)
                here = steps_in_the_app(address, recipe, args.seconds)
            alone = steps_alone(recipe, args.seconds)
            ratios.append(here / alone)
            print(
                f"{recipe} for {args.seconds:g} s, pair {pair + 1}: {here} steps in the app, {alone} without it: "
                f"{ratios[-1]:.2f}",
                flush=True,
            )
        print(f"{recipe}: the app trains {statistics.median(ratios):.2f} of the steps (median of {len(ratios)} pairs)")


if __name__ == "__main__":
    main()
