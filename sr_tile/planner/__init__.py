"""Tile, overlap and batch: what the user says, what the model says, what fits into memory, and what is fastest.

The overlap follows from how far the model looks (`tiles`). Tile and batch are chosen by a model of costs (`costs`) that is
fitted to a few measured calls (`measure`): once for a model on a device, kept in the user's cache folder. Measuring takes
seconds, so a small job does without: it takes the model's recommended tile, until something has been measured.
"""

from sr_tile.planner.choose_tile_and_batch import make_plan
from sr_tile.planner.plan import Plan, strip_bytes
from sr_tile.planner.settings import Auto, Settings

__all__ = ["Auto", "Plan", "Settings", "make_plan", "strip_bytes"]
