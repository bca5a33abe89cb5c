"""Opens the app, on a laptop or on a Space: `python app.py`, no argument needed. GRADIO_SERVER_PORT chooses the port."""

import os

if cores := os.environ.get("CPU_CORES"):  # a Space's share of its machine, whose cores are more; read by torch's import
    os.environ.setdefault("OMP_NUM_THREADS", cores)
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from roadtrip.ui.page import launch

if __name__ == "__main__":
    launch()
