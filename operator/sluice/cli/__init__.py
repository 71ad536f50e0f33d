"""The command line: ``sluice plan``, ``run``, ``demo``; one file per command."""

from sluice.cli.app import main

__all__ = ["main"]
