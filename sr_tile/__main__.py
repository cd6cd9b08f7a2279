"""`python -m sr_tile` is `sr-tile`: signals are handled before anything else is imported."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a traceback, wherever it is
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from sr_tile.system import stopping  # see above


def main() -> None:
    """Run the command line."""
    stopping.install()
    from sr_tile.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
