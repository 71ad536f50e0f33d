"""Folders that results go to: made, or refused by the option's name, before the work whose result they shall hold."""

from __future__ import annotations

import os
from pathlib import Path

import typer


def folder(path: Path, option: str) -> None:
    """Make the folder; end the command where that cannot be done or nothing may be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be made: {error.strerror}", param_hint=option) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"nothing may be written to {path}", param_hint=option)


def picture(path: Path, option: str) -> None:
    """Make the folder of a PNG file; end the command where the file cannot be written."""
    if path.is_dir() or path.suffix.lower() != ".png":
        raise typer.BadParameter(f"{path} is no name of a PNG file, such as curve.png", param_hint=option)
    folder(path.parent, option)
    was_there = path.exists()
    try:
        path.open("ab").close()
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}", param_hint=option) from error
    if not was_there:
        path.unlink()
