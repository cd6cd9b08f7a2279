"""Values of options that several commands share."""

import typer


def number_or_auto(text: str) -> str:
    """Check for a whole number or `auto`; `as_number` turns it into one."""
    if text != "auto" and not text.isdecimal():
        raise typer.BadParameter(f"{text!r} is neither a whole number nor `auto`")
    return text


def as_number(text: str) -> "int | str":
    """`auto`, or the number."""
    return text if text == "auto" else int(text)


def parse_parallel(text: str) -> dict[str, int]:
    """Read `decode=2,encode=2`: workers of the stages that may have several."""
    workers = {"decode": 2, "encode": 2}
    for item in filter(None, text.split(",")):
        name, _, number = item.partition("=")
        if name.strip() not in workers or not number.strip().isdecimal() or int(number) < 1:
            raise typer.BadParameter(f"{item!r} is not decode=N or encode=N with N from 1 up")
        workers[name.strip()] = int(number)
    return workers
