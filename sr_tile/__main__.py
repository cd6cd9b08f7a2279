"""`python -m sr_tile` is `sr-tile`: streams that were closed are opened, and signals handled, before all other imports."""

import signal

from sr_tile.system.streams import open_streams

open_streams()

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
