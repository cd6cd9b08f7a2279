"""Which licences of weights leave everybody free to use them."""

from sr_tile.errors import ArgumentError

FREE = (
    *("0BSD", "AGPL-3.0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0"),
    *("GPL-2.0", "GPL-3.0", "ISC", "LGPL-2.1", "LGPL-3.0", "MIT", "MPL-2.0", "Unlicense", "WTFPL", "Zlib"),
)
"""SPDX identifiers; `-only` and `-or-later` behind them are fine."""

_FREE = {name.lower() for name in FREE}


def is_free(licence: str | None) -> bool:
    """Whether a licence is known to allow every use; what is unknown is not."""
    name = (licence or "").strip().lower().removesuffix("-only").removesuffix("-or-later")
    return name in _FREE


def check_licence(name: str, licence: str | None, accepted: bool) -> None:
    """Refuse what its licence does not leave free, unless the user took it on.

    Args:
        name: of the model, for the message.
        licence: SPDX identifier; None where nobody said one.
        accepted: the user read the licence and accepts it.

    Raises:
        ArgumentError: neither is it free, nor is it accepted.
    """
    if accepted or is_free(licence):
        return
    what = f"its licence {licence} is none of the free ones" if licence else "its licence is not known here"
    way_out = "" if licence else ", or name a free one with --licence"
    raise ArgumentError(
        f"model {name}: {what} (MIT, Apache-2.0, CC-BY-4.0, ...); read it where the model is published, then give "
        f"--accept-licence{way_out}"
    )
