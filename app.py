"""Opens the app, on a laptop or on a Space: `python app.py`, no argument needed. GRADIO_SERVER_PORT chooses the port."""

import os

# OpenMP's threads spin while they wait for each other, which takes the cores from the visitor's browser. Short enough to
# leave them to it, long enough for a training step to lose nothing. Read when torch is imported, so it comes first.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from typing import Any

from roadtrip.ui.page import CSS, HEAD, build, theme


def launch(**more: Any) -> Any:
    """Serves the page; `more` goes to gradio's launch. Returns what that returns."""
    page = build().queue(default_concurrency_limit=4)
    # how often the queue looks for work: a thousand times a second, its default, costs a training a tenth of its steps
    page._queue.sleep_when_free = 0.02
    return page.launch(
        theme=theme(),
        css=CSS,
        head=HEAD,
        max_file_size="500mb",
        show_error=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        **more,
    )


if __name__ == "__main__":
    launch()
