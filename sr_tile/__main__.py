"""`python -m sr_tile` is `sr-tile`."""

from sr_tile.cli.main import main

main()
