"""Annotations of arrays are checked in the first calls of every test: to check all took more than what most tests do.

A function within another one is prepared for that whenever the outer one runs, which takes a thousand times as long as a
check: modules that are checked have none where it counts.
"""

import functools

from beartype import beartype
from jaxtyping import config

CHECKS = 200  # of arguments or of a result: the first tiles of a picture
_left = {"checks": CHECKS}


def begin() -> None:
    """Check again, as many times."""
    _left["checks"] = CHECKS
    config.update("jaxtyping_disable", False)


def checked(function):
    """What jaxtyping lets check arguments and results."""
    check = beartype(function)

    @functools.wraps(function)
    def counted(*args, **kwargs):
        _left["checks"] -= 1
        if _left["checks"] < 0:
            config.update("jaxtyping_disable", True)
        return check(*args, **kwargs)

    return counted
