"""Packages that only some commands need: told by the command that brings them, before any work is done."""

from __future__ import annotations

from importlib.util import find_spec

import typer


def has(module: str) -> bool:
    """Whether ``module`` is installed."""
    return find_spec(module) is not None


def need(module: str, extra: str) -> None:
    """End the command where ``module``, which the extra brings, is not installed."""
    if not has(module):
        typer.echo(f"sluice: this needs {module}: pip install 'sluice[{extra}]'", err=True)
        raise typer.Exit(code=1)
