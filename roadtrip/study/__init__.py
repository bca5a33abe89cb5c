"""The study: arms × seeds × films → rows of one table, and what such a table says.

arms: the recipes that are compared. rows: one run's key and row, and results files. running: one run. pool: many of
them, in processes or on Ray. analysis: medians, shares and exact tests. Independent of prose, figures and any UI.
"""

from .arms import ARMS
from .pool import VECTORS, plan, study
from .rows import PUBLISHED, SIZE, STEPS, Job, Row, add_rows, is_model_of, job_of, key_of, read_results, write_results
from .running import run
