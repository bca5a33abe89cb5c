"""Opens the app, on a laptop or on a Space: `python app.py`, no argument needed. GRADIO_SERVER_PORT chooses the port."""

import os

# OpenMP's threads spin while they wait for each other, which takes the cores from the visitor's browser. Short enough to
# leave them to it, long enough for a training step to lose nothing. Read when torch is imported, so it comes first.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")
if cores := os.environ.get("CPU_CORES"):  # a Space's share of its machine, whose cores are more
    os.environ.setdefault("OMP_NUM_THREADS", cores)
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from roadtrip.ui.page import launch

if __name__ == "__main__":
    launch()
