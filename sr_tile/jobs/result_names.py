"""Names of results by a template, such as `{stem}-{width}{ext}`."""

import os
import string
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from sr_tile.errors import ArgumentError
from sr_tile.jobs.selection import FilePair

FIELDS = ("stem", "ext", "width", "height", "model")


def check_template(template: str) -> None:
    """Refuse a template that makes no name.

    Raises:
        ArgumentError: its braces do not match, or what stands between them is none of `FIELDS`.
    """
    known = ", ".join(f"{{{name}}}" for name in FIELDS)
    try:
        used = [(name, form, turn) for _, name, form, turn in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise ArgumentError(f"--output-template {template}: {error}; it may hold {known}") from None
    for name, form, turn in used:
        if name not in FIELDS or form or turn:
            wrong = name + (f"!{turn}" if turn else "") + (f":{form}" if form else "")
            raise ArgumentError(f"--output-template {template}: {{{wrong}}} is none of {known}")
    if not template.strip() or template.endswith(("/", os.sep)):
        raise ArgumentError(f"--output-template {template!r}: is no name of a file, as {{stem}}-{{width}}{{ext}} makes")


def by_template(
    pairs: Sequence[FilePair], template: str, model: str, size_of: Callable[[Path], tuple[int, int]]
) -> list[FilePair]:
    """Pairs whose targets have the names that a template makes, in the same folders.

    Args:
        pairs: sources, and targets whose suffixes are kept as `{ext}`.
        template: see `check_template`.
        model: for `{model}`.
        size_of: (height, width) of the result of a source; asked where the template holds one of them.

    Raises:
        ArgumentError: two results would have one name, or one the place of an input.
    """
    sized = {"width", "height"} & {name for _, name, _, _ in string.Formatter().parse(template)}
    named: list[FilePair] = []
    owners = {os.path.realpath(pair.source): pair.source for pair in pairs}
    for pair in pairs:
        if pair.problem:
            named.append(pair)
            continue
        target = pair.target_path
        height, width = size_of(pair.source_path) if sized else (0, 0)
        values = {"stem": target.stem, "ext": target.suffix, "width": width, "height": height, "model": model}
        new = str(target.parent / template.format(**values))
        if other := owners.get(os.path.realpath(new)):
            raise ArgumentError(
                f"--output-template {template}: the result of {pair.source} would be {new}, as {other} is or becomes; "
                "make the names differ, as {stem} does"
            )
        owners[os.path.realpath(new)] = pair.source
        named.append(replace(pair, target=new))
    return named
