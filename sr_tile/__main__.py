"""`python -m sr_tile` is `sr-tile`: signals are handled, and streams that were closed opened, before all other imports."""

import sys

_hook, sys.excepthook = sys.excepthook, lambda *_: None  # Ctrl-C while the next line runs: no traceback
import signal  # noqa: E402

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a traceback, wherever it is
    signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.excepthook = _hook

from sr_tile.system import streams  # noqa: E402  # see above

streams.open_streams()

from sr_tile.system import stopping  # noqa: E402  # see above


def main() -> None:
    """Run the command line."""
    stopping.install()
    from sr_tile.cli.main import main as run

    try:
        run()
    except SystemExit as end:
        stopping.leave(end.code)
        raise


if __name__ == "__main__":
    main()
