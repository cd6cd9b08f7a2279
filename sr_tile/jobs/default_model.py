"""Which bundled model does images for which none was named: the one for photographs, or the one for clean pictures."""

from collections.abc import Sequence
from pathlib import Path

from sr_tile.errors import ImageError
from sr_tile.images.damage_signs import Condition, condition_of
from sr_tile.models import zoo

LEAST_QUALITY = 94
MOST_NOISE = 2.9
MOST_BLOCKS = 1.15
"""Where the clean model and the one for photographs measured alike (models/photo-x2.md)."""

MOST_FILES = 500


def choose_default(sources: Sequence[Path], scale: int | None = None) -> tuple[str, str | None]:
    """The model for all of these images, and why, in words; None where none of them could be looked at.

    The clean one gains a decibel on pictures that were reduced and nothing else, and sharpens every damage; so one sign
    of damage in one of the images decides for the other.

    Args:
        sources: the images; those that cannot be read do not count.
        scale: output pixels per input pixel, 2 where nothing is said.

    Raises:
        ArgumentError: no bundled model has this scale.
    """
    photo, clean = zoo.find(None, scale).stem, zoo.CLEAN.get(scale or 2)
    if clean is None:
        return photo, "the only one of its scale"
    if len(sources) > MOST_FILES:
        return photo, f"more than {MOST_FILES} images, which are not looked at one by one"
    seen = 0
    for source in sources:
        try:
            sign = damage(condition_of(source))
        except (ImageError, OSError):
            continue
        if sign:
            return photo, f"{source} {sign}"
        seen += 1
    if not seen:
        return photo, None
    return clean, "no sign of noise or compression"


def default_steps(sources: Sequence[Path], factor: float) -> tuple[list[str], str | None]:
    """The bundled models in turn that enlarge all of these images by a factor, and why the first is this one.

    Raises:
        ArgumentError: no two of them reach it.
    """
    scale, *further = zoo.reaching_in_turn(factor)
    name, reason = choose_default(sources, scale)
    return [name, *(zoo.CLEAN[each] for each in further)], reason  # what the first one made is clean


def damage(condition: Condition) -> str | None:
    """The sign of damage that speaks against the clean model, in words; None where there is none."""
    quality = condition.jpeg_quality
    if quality is not None and quality < LEAST_QUALITY:
        return f"is a JPEG of quality {quality}"
    if condition.lossy:
        return "is compressed with loss"
    if condition.noise > MOST_NOISE:
        return f"has noise of about {min(condition.noise, 255):.0f} of 255"
    if condition.blocks > MOST_BLOCKS:
        return "shows the blocks of an earlier JPEG"
    return None
