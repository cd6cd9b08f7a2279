"""`python -m sr_tile` is `sr-tile`: streams that were closed are opened, and signals handled, before all other imports."""

import os
import signal
import sys

for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
    if getattr(sys, name) is None:  # else the next file gets its number, and with it what libraries print
        setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123  # the lowest number that is free: its own

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a traceback, wherever it is
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from sr_tile.system import stopping  # noqa: E402  # see above


def main() -> None:
    """Run the command line."""
    stopping.install()
    from sr_tile.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
