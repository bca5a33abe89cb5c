"""The app as a visitor uses it, in Chromium: a first look, a training, scrubbing that never asks the server."""

import os
import re
import shutil
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
QUIET = ["disable-gpu", "disable-quic", "no-first-run", "disable-background-networking", "disable-component-update"]
ARGUMENTS = ["--no-sandbox", "--headless", *(f"--{a}" for a in QUIET), "--disable-sync"]

if CHROMIUM is None and os.environ.get("CI") != "true":
    pytest.skip("there is no Chromium on the PATH", allow_module_level=True)

from gradio_client import Client
from playwright.sync_api import sync_playwright

from bench.browser import Served, stills
from roadtrip.ui.library import ROAD


@pytest.fixture(scope="module")
def browser():
    assert CHROMIUM, "CI needs Chromium: `make test` installs it where it can"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, served):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.troubles, page.requests, page.waiting = [], [], set()
    page.on("console", lambda m: page.troubles.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: page.troubles.append(str(e)))
    page.on("request", lambda r: page.requests.append(r.url))
    page.on("request", lambda r: page.waiting.add(r) if "/queue/" in r.url else None)
    for ended in ("requestfinished", "requestfailed"):
        page.on(ended, lambda r: page.waiting.discard(r))
    page.goto(served)
    yield page
    page.close()


def player(page, name):
    root = page.locator(f"#{name} [data-testid=player]")
    page.wait_for_function(
        f"document.querySelector('#{name} [data-testid=player]')?.dataset.frames > 1", timeout=90_000
    )
    return root


def quiet(page):
    """Waits until every answer of the server is there, and for two seconds nothing more has been asked."""
    for _ in range(60):
        asked = len(page.requests)
        page.wait_for_timeout(2000)
        if not page.waiting and asked == len(page.requests):
            return
    raise AssertionError(f"still waiting for {[r.url for r in page.waiting]}")


def click_in_a_row(page, box, which, between):
    """Clicks on buttons of a strip by their number, or on points of a chart by what they carry, so many ms apart."""
    script = """(box, [which, between]) => which.forEach((picked, i) => setTimeout(() => {
        if (box.emit) box.emit('plotly_click', { points: [{ customdata: picked }] }); else box.children[picked].click();
    }, i * between))"""
    page.locator(box).evaluate(script, [which, between])


def pixels(root, view):
    """A fingerprint of what a canvas shows."""
    return (
        root.locator("canvas")
        .nth(view)
        .evaluate(
            """canvas => { const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        let sum = 0; for (let i = 0; i < data.length; i++) sum = (sum * 31 + data[i]) % 1000000007; return sum; }"""
        )
    )


def numbers(page, tab):
    """Opens the fold with the numbers of a tab."""
    page.locator(f"#rt-tab-{tab.lower()}").get_by_role("button", name="Numbers").click()


def in_sight(page, locator):
    """Whether all of an element is seen without scrolling, when what moved has settled."""
    for _ in range(50):
        box = locator.bounding_box()
        if box and box["y"] >= 0 and box["y"] + box["height"] <= page.viewport_size["height"]:
            return True
        page.wait_for_timeout(100)
    return False


@pytest.fixture(scope="module")
def shipped():
    """The address of an app with the models that ship, in a process of its own, up for a moment."""
    with ExitStack() as stack:
        with (
            pytest.MonkeyPatch.context() as patched
        ):  # no longer than it starts: the app that is served here reads it, too
            patched.delenv("ROADTRIP_CHECKPOINTS", raising=False)
            address = stack.enter_context(Served())
        Client(address, verbose=False).predict(
            "post-replay-pair", "post-replay-single", ROAD, 1289, False, api_name="/compare"
        )
        yield address


def test_a_newcomer_sees_it_flip_trains_on_own_stills_and_the_link_opens_elsewhere(browser, shipped, tmp_path):
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    troubles = []
    page.on("pageerror", lambda e: troubles.append(str(e)))
    page.goto(shipped)
    page.wait_for_function(  # no click, within ten seconds
        "document.querySelector('#rt-compare-player')?.innerText.includes('alternates between two pictures')",
        timeout=10_000,
    )
    apart = page.evaluate("""async () => {  // how far the first view is from one frame, and from two frames before
        const root = document.querySelector('#rt-compare-player .rt-player'), canvas = root.querySelector('canvas');
        const seen = [], context = canvas.getContext('2d');
        await new Promise(done => document.addEventListener('rt-frame', () => {
            seen.push(context.getImageData(0, 0, canvas.width, canvas.height).data);
            if (seen.length > 6) done();
        }));
        const far = (a, b) => a.reduce((sum, v, i) => sum + Math.abs(v - b[i]), 0) / a.length;
        return [1, 2].map(by => Math.min(...seen.slice(0, 5).map((frame, t) => far(frame, seen[t + by]))));
    }""")
    assert apart[0] > max(4, 2 * apart[1]), "it plays by itself, and even frames are not as odd ones are"

    page.get_by_role("tab", name="Train").click()
    page.locator("#rt-files input[type=file]").set_input_files(stills(tmp_path))
    page.wait_for_function(
        "document.querySelector('#rt-about').innerText.includes('60 stills: 48 to train, 12 held out')"
    )
    page.wait_for_function("document.querySelectorAll('#rt-film img').length == 2")
    page.locator("#rt-seconds input").fill("20")
    page.locator("#rt-start").click()
    loss = "document.querySelector('#rt-losses .rt-chart').data?.[0].y"
    page.wait_for_function(f"{loss}?.length > 8", timeout=90_000)
    page.wait_for_function("document.querySelector('#rt-status').innerText.includes('finished')", timeout=90_000)
    curve = page.evaluate(loss)
    third = len(curve) // 3  # how many steps fit depends on the machine, and a single batch's loss on chance
    assert sum(curve[-third:]) < sum(curve[:third])
    assert page.locator("#rt-losses .rt-chart").is_visible()

    page.get_by_role("tab", name="Scrub").click()
    headed(page, "rt-scrub-player", "generated")
    model = page.locator("#rt-tab-scrub").get_by_label("Model", exact=True)
    page.wait_for_function(
        "document.querySelector('#rt-tab-scrub input[aria-label=Model]')?.value.startsWith('v1, your stills')"
    )
    root = player(page, "rt-scrub-player")
    page.wait_for_function("!document.querySelector('#rt-scrub-player .rt-dim')")
    seen = set()
    for frame in (0, 3, 6):
        root.get_by_test_id("player-slider").fill(str(frame))
        seen.add(pixels(root, 0))
    assert len(seen) == 3 and "real film" in root.inner_text()
    starts = "[...document.querySelectorAll('#rt-starts button')].map(b => +b.title.split(' ')[1])"
    page.wait_for_function(f"({starts}).length && ({starts}).every(t => t >= 48 && t < 60)")  # of this film
    with page.expect_download() as download:
        page.locator("#rt-tab-scrub").get_by_role("button", name="Save clip").click()
    assert download.value.suggested_filename == "roadtrip-rollout.mp4"
    page.wait_for_function("location.search.includes('your+stills')")

    other = browser.new_context().new_page()
    other.goto(page.url)
    said = "document.querySelector('#rt-notice')?.innerText || ''"
    other.wait_for_function(f"({said}).includes('lives in the browser that made it')", timeout=30_000)
    assert model.input_value() in other.locator("#rt-notice").inner_text()
    assert other.locator("#rt-scrub-player canvas").count() == 0
    other.context.close()
    page.close()
    assert troubles == []


CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
# what a visitor could not understand at once
NOT_UNDERSTOOD = (
    "beside the single frame|with the flow|a memory|by your own hand|in each turn|a real step|it loses to|needs no network|"
    "an arm a line|of an arm|this arm|comes back|broken line|upright line|the film has ended|alike|ends as|shipped|"
    "drive on$|v3-cure|post-flip|replay-detached"
)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_texts_are_plain_and_read_in_both_modes(browser, shipped, mode):
    """Every tab with its folds open, on a phone, where the page is no wider than the screen."""
    page = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=mode).new_page()
    page.goto(shipped)
    faint = []
    for tab in ("Compare", "Train", "Scrub", "Drive", "Study"):
        page.get_by_role("tab", name=tab).click()
        root = page.locator(f"#rt-tab-{tab.lower()}")
        if tab in ("Compare", "Train", "Scrub"):
            player(page, f"rt-{tab.lower()}-player")
        elif tab == "Drive":
            page.wait_for_function("+document.querySelector('[data-testid=live]').dataset.frame >= 36", timeout=60_000)
        for fold in root.locator("button.label-wrap").all():
            fold.click()
        chart = {"Compare": "rt-lags", "Scrub": "rt-errors", "Study": "rt-seeds"}.get(tab)
        if chart:
            page.wait_for_function(f"document.querySelector('#{chart} .rt-chart')?.dataset.drawn >= 1", timeout=60_000)
        faint += [f"{tab}: {text}" for text in page.evaluate(CONTRAST)]
        said = root.inner_text()
        assert re.findall(NOT_UNDERSTOOD, said.lower(), re.M) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
    page.context.close()
    assert faint == []


def test_what_can_not_be_is_one_sentence_and_nothing_waits_for_it(browser, shipped):
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(shipped)
    root = player(page, "rt-compare-player")
    headline = root.locator(".rt-headline")

    def answered(loads):
        page.wait_for_function(f"document.querySelector('#rt-compare-player .rt-player').dataset.loads > {loads}")
        page.wait_for_function("!document.querySelector('#rt-compare-player .rt-dim')")

    root.get_by_label("View").select_option("wipe 0 2")
    loads = root.get_attribute("data-loads")
    page.get_by_role("button", name="It stands still").click(timeout=60_000)
    answered(loads)
    assert root.get_by_label("View").input_value() == "wipe 0 2" and "drag" in root.inner_text()
    field = page.locator("#rt-tab-compare").get_by_role("spinbutton", name="number input for First input frame")
    for value in ("-5", "", "1e300"):
        field.fill(value)
        field.blur()
        page.wait_for_timeout(1000)
        page.wait_for_function("!document.querySelector('#rt-compare-player .rt-dim')")
        assert 1200 <= int(field.input_value()) <= 1499, value
    same = page.get_by_label("First model", exact=True).input_value()
    choose(page, "Second model", re.compile(f"^{re.escape(same)}$"))
    page.wait_for_function("document.querySelector('#rt-compare-player').innerText.includes('two different models')")
    assert root.locator("canvas").count() == 0 and headline.inner_text().count("different") == 1

    page.get_by_role("tab", name="Train").click()
    wrong = page.locator("#rt-tab-train .rt-wrong:visible").first
    status = "document.querySelector('#rt-status').innerText"
    for name, right in (("seconds", "20"), ("seed", "0")):
        field = page.locator(f"#rt-{name} input")
        for value in ("-5", "", "1e300"):
            field.fill(value)
            page.wait_for_function("document.querySelector('#rt-tab-train').innerText.includes('number from')")
            assert wrong.locator("strong").inner_text().lower().startswith(name), value  # beside gradio's hidden clock
            page.locator("#rt-start").click()
            page.wait_for_function(f"!{status}.includes('Nothing is training') && !{status}.includes('Getting ready')")
            assert "left" not in page.evaluate(status)
        field.fill(right)
        page.wait_for_function("!document.querySelector('#rt-tab-train').innerText.includes('number from')")
    page.get_by_role("button", name="The recipe: what feeds what").click()
    for value, said in (("-5", "choose from 1 to 16"), ("", "empty"), ("1e300", "choose from 1 to 16")):
        page.get_by_label("unroll", exact=True).fill(value)
        page.wait_for_function(f"document.querySelector('#rt-tab-train').innerText.includes('{said}')")
        page.get_by_label("unroll", exact=True).fill("1")
        page.wait_for_function(f"!document.querySelector('#rt-tab-train').innerText.includes('{said}')")
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("button", name="Train both yourself").click()
    page.get_by_label("Steps of each", exact=True).fill("-5")
    page.wait_for_function("document.querySelector('#rt-tab-compare').innerText.includes('whole number from 1 to')")
    assert page.locator(".toast-body").count() == 0
    page.close()


def test_opens_on_a_result(page, served):
    root = player(page, "rt-compare-player")
    assert root.locator("figure").count() == 3 and int(root.get_attribute("data-frames")) == 64
    assert int(root.get_attribute("data-frame")) >= 32  # where the verdict is read
    assert "flip" in root.locator(".rt-headline").inner_text()
    assert all(root.locator("figcaption span").nth(i).inner_text() for i in range(2))
    one, other = pixels(root, 0), pixels(root, 2)
    assert one != other
    assert page.locator(".js-plotly-plot").count() == 0  # charts are behind a fold
    numbers(page, "Compare")
    page.wait_for_function("document.querySelector('#rt-lags .rt-chart')?.dataset.drawn >= 1")
    assert page.locator("#rt-numbers table").count() == 1
    elsewhere = [u for u in page.requests if not u.startswith((served, "data:", "blob:"))]
    assert elsewhere == [] and page.troubles == []

    mains = {"Compare": "#rt-go-live", "Train": "#rt-start", "Scrub": None, "Drive": "#rt-live-go", "Study": None}
    for width, height in ((1440, 900), (390, 844)):  # a phone: nothing sticks out sideways
        page.set_viewport_size({"width": width, "height": height})
        for tab, main in mains.items():
            page.get_by_role("tab", name=tab).click()
            if tab in ("Compare", "Train", "Scrub"):
                assert in_sight(page, player(page, f"rt-{tab.lower()}-player")), (tab, width)
            assert main is None or in_sight(page, page.locator(main)), (tab, width)
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def choose(page, label, option, tab="Compare"):
    page.locator(f"#rt-tab-{tab.lower()}").get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option).first.click()


def headed(page, name, words):
    """Waits until a player's pictures have a label with these words."""
    page.wait_for_function(
        f"[...document.querySelectorAll('#{name} figcaption b')].some(b => b.innerText.includes('{words}'))",
        timeout=60_000,
    )


def test_what_is_chosen_while_the_page_still_opens_stays(browser, served, monkeypatch):
    from roadtrip.ui import starts

    held, computed = threading.Event(), starts.offered_starts
    monkeypatch.setattr(starts, "offered_starts", lambda *asked: (held.wait(60), computed(*asked))[1])
    page = browser.new_page()
    page.goto(served)
    choose(page, "First model", "lstm: ")
    page.get_by_role("tab", name="Train").click()
    choose(page, "Recipe", "v3-single: ", "Train")
    page.wait_for_timeout(1000)
    held.set()
    headed(page, "rt-compare-player", "lstm")
    page.wait_for_timeout(1000)
    assert page.get_by_label("Recipe", exact=True).input_value().startswith("v3-single")
    page.get_by_role("tab", name="Compare").click()
    assert page.get_by_label("First model").input_value().startswith("lstm")
    assert "lstm" in page.locator("#rt-compare-player figcaption").first.inner_text()
    page.close()


def test_scrubbing_asks_the_server_for_nothing(page):
    page.get_by_role("tab", name="Scrub").click()
    root = player(page, "rt-scrub-player")
    slider = root.get_by_test_id("player-slider")
    page.wait_for_function("document.querySelectorAll('#rt-starts button').length == 12", timeout=60_000)
    quiet(page)  # other tabs are drawn after this one
    page.requests.clear()
    seen = set()
    for frame in (0, 5, 20, 40):
        slider.fill(str(frame))
        assert root.get_attribute("data-frame") == str(frame)
        seen.add(pixels(root, 0))
    assert len(seen) == 4
    root.press("Home")
    root.press("ArrowRight")
    assert root.get_attribute("data-frame") == "1"
    with page.expect_download() as download:
        root.get_by_label("Save this frame").click()
    assert download.value.suggested_filename == "roadtrip-g4.png"
    root.press("End")
    assert int(root.get_attribute("data-frame")) == int(root.get_attribute("data-frames")) - 1
    assert [u for u in page.requests if not u.startswith(("data:", "blob:"))] == []
    assert page.troubles == []


def test_player_shows_the_modes_a_wipe_and_one_alone(page):
    root = player(page, "rt-compare-player")
    root.press("Home")
    look, before = root.get_by_label("View"), [pixels(root, i) for i in range(3)]
    look.select_option("even")
    even = pixels(root, 0)
    look.select_option("odd")
    assert len({even, pixels(root, 0), before[0]}) == 3
    look.select_option("wipe 0 2")
    assert root.locator("figure:visible").count() == 1 and pixels(root, 0) not in before
    box = root.locator("canvas").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] + 5, box["y"] + 20, steps=3)  # all the way: only the first view is left
    page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 20)
    page.mouse.up()
    look.select_option("frames")
    root.press("2")
    assert root.locator("figure:visible figcaption b").inner_text() == "v1: trained 1 frame ahead"
    root.press("2")
    assert root.locator("figure:visible").count() == 3 and [pixels(root, i) for i in range(3)] == before
    assert page.troubles == []


def test_a_click_in_the_chart_moves_the_film(page):
    root = player(page, "rt-compare-player")
    numbers(page, "Compare")
    page.wait_for_function("document.querySelector('#rt-sizes .rt-chart')?.dataset.drawn >= 1")
    root.press("Home")
    page.locator("#rt-sizes .nsewdrag").click(position={"x": 200, "y": 60})
    assert int(root.get_attribute("data-frame")) > 5
    left = "document.querySelector('#rt-sizes .rt-playhead').style.left"
    there = page.evaluate(left)
    root.press("ArrowRight")
    assert page.evaluate(left) != there
    # the address changes with the view: a clip path that names one hides its curves
    clips = page.evaluate("[...document.querySelectorAll('[clip-path]')].map(e => e.getAttribute('clip-path'))")
    assert clips and all(clip.startswith("url(#") for clip in clips)
    assert page.troubles == []


def test_a_click_on_the_map_shows_the_seeds_of_that_column_and_one_on_a_dot_its_run(page):
    page.get_by_role("tab", name="Study").click()
    for name in ("whole", "seeds"):
        page.wait_for_selector(f"#rt-{name} .rt-chart[data-drawn]", timeout=60_000)
    drawn = "document.querySelector('#rt-{} .rt-chart').dataset.drawn"
    before = page.evaluate(drawn.format("seeds"))
    # the longest table stands first; what was clicked is the other one
    menu = page.get_by_label("Dataset and settings")
    first = menu.input_value()
    cells = page.locator("#rt-whole .nsewdrag")
    cells.scroll_into_view_if_needed()
    box = cells.bounding_box()
    cells.click(position={"x": 0.75 * box["width"], "y": 0.5 * box["height"]})
    page.wait_for_function(f"{drawn.format('seeds')} > {before}")
    assert menu.input_value() != first and {"replay=8" in first, "replay=8" in menu.input_value()} == {True, False}
    page.locator("#rt-seeds .point").first.scroll_into_view_if_needed()
    at = page.locator("#rt-seeds .point").first.bounding_box()
    page.mouse.click(at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
    page.wait_for_function("document.querySelector('#rt-picked').innerText.includes('seed')")
    page.wait_for_function(f"{drawn.format('clock')} >= 1 && {drawn.format('onset')} >= 1")
    assert "python -m roadtrip study --arms" in page.locator("#rt-picked").inner_text()
    assert page.troubles == []


def test_a_link_opens_on_what_was_shared(page, browser, served):
    root = player(page, "rt-compare-player")
    root.press("Home")
    choose(page, "First model", "v2: trained 2 frames ahead, no")
    headed(page, "rt-compare-player", "v2: ")
    root.press("Home")
    root.get_by_label("Speed").select_option("0.5")
    for _ in range(7):
        root.press("ArrowRight")
    page.wait_for_function("location.search.includes('frame=7') && location.search.includes('left=v2')")
    other = browser.new_page()
    other.goto(page.url)
    again = player(other, "rt-compare-player")
    headed(other, "rt-compare-player", "v2: ")
    assert again.get_attribute("data-frame") == "7" and again.get_by_label("Speed").input_value() == "0.5"
    other.goto(f"{served}?tab=scrub&model=v1&start=1260&horizon=20&frame=3")
    scrub = player(other, "rt-scrub-player")
    other.wait_for_function("document.querySelector('#rt-scrub-player .rt-player').dataset.frames == 20")
    assert scrub.get_attribute("data-frame") == "3"
    other.goto(f"{served}?tab=train&recipe=v3-pair&changes=unroll%3D4+disc_frames%3D3&seconds=33&seed=5")
    recipe(other)
    other.wait_for_function("document.querySelector('#rt-diagram svg')?.textContent.includes('g6')", timeout=60_000)
    assert other.locator("#rt-seconds input").input_value() == "33"
    other.goto(
        f"{served}?tab=<script>&left=nobody&start=-1&horizon=1e99&seed=x&recipe=%00&changes=wings%3D2&film=%2Fetc&seconds=-1"
    )
    other.wait_for_function("document.querySelector('#rt-notice')?.innerText.includes('there is no tab')")
    player(other, "rt-compare-player")
    # a model of another browser: it says so, and shows nothing else in its place
    other.goto(f"{served}?left=v2%2C+seed+0%2C+9+steps+(yours)&right=v1&seed=7")
    other.wait_for_function("document.querySelector('#rt-notice')?.innerText.includes('lives in the browser')")
    other.wait_for_function("document.querySelector('#rt-compare-player').innerText.includes('Choose a model')")
    assert other.locator("#rt-compare-player canvas").count() == 0
    other.close()
    assert page.troubles == []


def recipe(page):
    page.get_by_role("button", name="The recipe: what feeds what").click()


def test_train_stop_and_scrub_what_was_learned(page):
    quiet(page)  # Scrub has been drawn, too: what was learned takes its place
    page.get_by_role("tab", name="Train").click()
    page.locator("#rt-seconds input").fill("60")
    page.locator("#rt-start").click()
    page.wait_for_function("/step \\d+/.test(document.querySelector('#rt-status').innerText)", timeout=90_000)
    headed(page, "rt-train-player", "generated, step")
    assert player(page, "rt-train-player").locator("figure").count() == 2
    page.wait_for_function("document.querySelector('#rt-losses .rt-chart')?.dataset.drawn >= 2", timeout=60_000)
    page.locator("#rt-stop").click()
    page.wait_for_function("document.querySelector('#rt-status').innerText.includes('Stopped')", timeout=30_000)
    with page.expect_download() as download:
        page.locator("#rt-download").click()
    assert download.value.suggested_filename.startswith("roadtrip-v1-seed0-step")

    scrub = page.locator("#rt-tab-scrub")
    chosen = "document.querySelector('#rt-tab-scrub input[aria-label=\"Model\"]')?.value.includes('(yours)')"
    page.get_by_role("tab", name="Scrub").click()
    page.wait_for_function(chosen, timeout=60_000)
    player(page, "rt-scrub-player")
    assert "(yours)" in scrub.get_by_label("Model", exact=True).input_value()
    for button, name in (("Save clip", "roadtrip-rollout.mp4"), ("Save the rollout", "rollout.mp4")):
        if button == "Save the rollout":
            scrub.get_by_role("button", name="Files: ").click()
        with page.expect_download() as download:
            scrub.get_by_role("button", name=button).click()
        assert download.value.suggested_filename == name
    assert page.troubles == []


def test_a_reload_finds_the_run_and_resume_goes_on(page):
    player(page, "rt-compare-player")
    page.get_by_role("tab", name="Train").click()
    page.wait_for_function("document.querySelectorAll('#rt-film img').length == 2", timeout=60_000)
    recipe(page)
    page.get_by_role("button", name="60 s of v2").click()
    page.wait_for_function("document.querySelector('#rt-diagram svg').textContent.includes('g4')")
    page.locator("#rt-start").click()
    page.wait_for_function("/v2.*step \\d+/.test(document.querySelector('#rt-status').innerText)", timeout=90_000)
    headed(page, "rt-train-player", "generated, step")
    page.wait_for_function("document.querySelector('#rt-learning .rt-chart')?.dataset.drawn >= 1", timeout=60_000)
    page.reload()
    page.get_by_role("tab", name="Train").click()
    status = "document.querySelector('#rt-status').innerText"
    page.wait_for_function(f"{status}.includes('Continue goes on')", timeout=90_000)
    page.troubles.clear()  # gradio's own words for the stream that the reload cut off
    step = int(page.evaluate(status).split("step ")[1].split(",")[0])
    player(page, "rt-train-player")
    page.wait_for_function("document.querySelector('#rt-learning .rt-chart')?.dataset.drawn >= 1")
    page.locator("#rt-resume").click()
    page.wait_for_function(f"+({status}.match(/step (\\d+)/) || [0, 0])[1] > {step}", timeout=90_000)
    page.locator("#rt-reset").click()
    page.wait_for_function(f"{status}.includes('Nothing is training')", timeout=15_000)
    headed(page, "rt-train-player", "real film")
    page.wait_for_function("document.querySelectorAll('#rt-train-player canvas').length == 1")
    assert page.troubles == []


def test_a_picture_of_the_strip_is_a_start(page):
    page.get_by_role("tab", name="Scrub").click()
    root = player(page, "rt-scrub-player")
    buttons = page.locator("#rt-starts button")
    page.wait_for_function("document.querySelectorAll('#rt-starts button').length == 12", timeout=60_000)
    loads = int(root.get_attribute("data-loads"))
    buttons.nth(10).click()
    page.wait_for_function(f"document.querySelector('#rt-scrub-player .rt-player').dataset.loads > {loads}")
    first = page.get_by_role("spinbutton", name="number input for First input frame")
    assert first.input_value() == buttons.nth(10).get_attribute("title").split()[1]
    for clicked, between in (([9, 1, 6, 3], 0), ([11, 4, 7, 2], 5), ([5, 0, 7, 1], 60)):
        click_in_a_row(page, "#rt-starts .rt-strip", clicked, between)
        last = buttons.nth(clicked[-1])
        wanted = last.get_attribute("title").split()[1]
        page.wait_for_function(f"location.search.includes('start={wanted}')")
        page.wait_for_function("!document.querySelector('#rt-scrub-player .rt-dim')")
        quiet(page)
        assert first.input_value() == wanted and f"start={wanted}" in page.url
        assert last.get_attribute("aria-pressed") == "true"
    assert page.troubles == []


def test_of_clicks_in_a_row_the_last_one_counts(page):
    """Also where they come while the first is not yet answered: Gradio asks again then, with the first one's data."""
    examples = page.locator("#rt-examples button")
    page.wait_for_function("document.querySelectorAll('#rt-examples button').length == 2", timeout=90_000)
    quiet(page)
    for last, between in ((0, 0), (1, 5), (0, 60)):
        click_in_a_row(page, "#rt-examples .rt-strip", [1 - last, last, 1 - last, last], between)
        quiet(page)
        assert examples.nth(last).get_attribute("aria-pressed") == "true"
    page.get_by_role("tab", name="Study").click()
    page.wait_for_function("document.querySelectorAll('#rt-seeds .point').length > 2", timeout=90_000)
    for seed, between in ((2, 0), (3, 5), (4, 60)):
        click_in_a_row(page, "#rt-seeds .rt-chart", [["v2", 0], ["v2", 1], ["v2", seed]], between)
        quiet(page)
        assert f"v2, seed {seed}" in page.locator("#rt-picked").inner_text()
    assert page.troubles == []


def test_a_drive_goes_on_live_pauses_and_goes_on(page, served):
    player(page, "rt-compare-player")
    page.locator("#rt-go-live").click()  # one click from the opening
    live = page.get_by_test_id("live")
    frame = lambda: int(live.get_attribute("data-frame"))  # noqa: E731
    page.wait_for_function("+document.querySelector('[data-testid=live]').dataset.frame >= 1")
    picture = "document.querySelector('[data-testid=live] canvas').toDataURL()"
    before = page.evaluate(picture)  # on a slow machine the 40th may stand for a while, paused or not
    page.wait_for_function("+document.querySelector('[data-testid=live]').dataset.frame >= 40")
    assert "the last 32" in live.inner_text()
    page.locator("#rt-live-pause").click()
    page.wait_for_function("""() => new Promise(done => {
        const box = document.querySelector('[data-testid=live]'), seen = box.dataset.frame;
        setTimeout(() => done(box.dataset.frame === seen), 1500);
    })""")
    stood = frame()
    assert page.evaluate(picture) != before
    page.locator("#rt-live-go").click()
    page.wait_for_function(f"+document.querySelector('[data-testid=live]').dataset.frame > {stood}")
    page.locator("#rt-live-another").click()
    page.wait_for_function(f"+document.querySelector('[data-testid=live]').dataset.frame < {stood}")
    assert page.troubles == []


def test_two_versions_run_by_the_visitor(page):
    player(page, "rt-compare-player")
    page.get_by_role("button", name="Train both yourself").click()
    page.get_by_label("Steps of each", exact=True).fill("3")
    page.locator("#rt-duel-start").click()
    root = player(page, "rt-duel-player")
    page.wait_for_function("document.querySelector('#rt-duel-status').innerText.includes('finished')", timeout=90_000)
    assert root.locator("figure").count() == 3
    choose(page, "First model", "v3-pair, seed 0, 3 steps (yours)")
    headed(page, "rt-compare-player", "(yours)")
    assert page.troubles == []


def test_the_keyboard_alone_is_enough(page):
    player(page, "rt-compare-player")
    where = "document.activeElement.closest('[role=tab], [data-testid=player], button')"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(f"{where}?.dataset.testid") == "player":
            break
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(f"{where}.dataset.frame") == "1"
    page.keyboard.press(" ")
    page.wait_for_function("+document.querySelector('#rt-compare-player .rt-player').dataset.frame > 2")
    page.keyboard.press(" ")
    still = page.evaluate(f"{where}.dataset.frame")
    time.sleep(0.5)
    assert page.evaluate(f"{where}.dataset.frame") == still
    for _ in range(60):
        page.keyboard.press("Shift+Tab")
        if page.evaluate(f"{where}?.textContent.trim()") == "Scrub":
            break
    page.keyboard.press("Enter")
    player(page, "rt-scrub-player")
    assert page.locator("#rt-scrub-player canvas").first.is_visible()


def test_a_page_comes_with_the_opening_unless_its_link_asks_for_another(browser, shipped):
    seen = (
        "window.seen = new Set(); document.addEventListener('rt-frame', e => window.seen.add(e.target.dataset.loads))"
    )
    page = browser.new_page()
    page.add_init_script(seen)
    opening = "post-replay-single the rendered road 1289"  # made in the first seconds of the server
    for _ in range(90):
        if opening in page.request.get(shipped).text():
            break
        page.wait_for_timeout(1000)
    else:
        raise AssertionError("the server has not made its opening")
    for link in ("", "?start=1301", "?start=999999999", "?left=v1&right=v2"):
        page.goto(shipped + link)
        player(page, "rt-compare-player")
        page.wait_for_function("document.querySelectorAll('#rt-examples button').length == 4", timeout=90_000)
        page.wait_for_timeout(1000)
        shown = page.evaluate("[...window.seen]")  # which of the films that were sent
        assert len(shown) == 1 and (shown == ["1"]) == (not link), link
    page.close()
