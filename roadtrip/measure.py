"""Temporary: the names of oscillation.py and evaluation.py, until every importer has moved."""

from .evaluation import *  # noqa: F403
from .frames import l1, psnr, sharpness, ssim  # noqa: F401
from .oscillation import *  # noqa: F403
