"""docs/python.md names what is public."""

import re
from pathlib import Path

import sr_tile
from sr_tile import serving
from sr_tile.enhancer import Enhancer

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text()


def test_every_public_name_is_there():
    names = {*sr_tile.__all__, *serving.__all__} - {"__version__"}
    names |= {name for name in vars(Enhancer) if not name.startswith("_")} - {"use_plan", "engine"}
    assert not {name for name in names if not re.search(rf"\b{name}\b", PAGE)}
