"""``python -m sluice`` is the console script."""

from sluice.cli import main

main()
