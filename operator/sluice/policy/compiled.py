"""Compile the kernels of policies and simulator where numba is installed, and run them as they are where it is not.

One source, two ways to run it: the live gate takes one decision at a time and needs no
compiler; the simulator takes millions. With ``NUMBA_DISABLE_JIT=1`` numba itself hands
the plain functions back, which is how tests compare both ways.

Machine code is cached under a digest of every kernel source: numba's own check looks at
the file of the outermost function only, and would miss an edited policy. Folders of other
digests are removed, but for the few used last: another version may be running.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])

_KERNEL_ROOMS = ("policy", "simulation")
_PREFIX = "kernels-"
KEPT_CACHES = 3
"""Folders of other digests that stay: 15 MB each, and a minute of compiling for whoever goes back to one."""


def _cache_folder() -> Path:
    """A folder per state of the kernel sources, in the user's cache."""
    digest = hashlib.blake2b(digest_size=8)
    package = Path(__file__).parent.parent
    for room in _KERNEL_ROOMS:
        for source in sorted((package / room).glob("*.py")):
            text = source.read_bytes()
            if b"sluice.policy.compiled" in text:
                digest.update(text)
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if home else Path.home() / ".cache"
    return base / "sluice" / f"{_PREFIX}{digest.hexdigest()}"


def prune(current: Path, kept: int = KEPT_CACHES) -> None:
    """Remove the caches beside ``current`` but for the ``kept`` used last; a cache that cannot be touched stays."""
    try:
        current.mkdir(parents=True, exist_ok=True)
        os.utime(current)
        others = [entry for entry in current.parent.glob(f"{_PREFIX}*") if entry.is_dir() and entry != current]
        others.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
    except OSError:  # a read-only home, or another process was first: the next start tries again
        return
    for entry in others[kept:]:
        shutil.rmtree(entry, ignore_errors=True)


def _compiler() -> Callable[..., Any] | None:
    if os.environ.get("SLUICE_KERNELS") == "plain":  # the live gate: numba alone would double its memory
        return None
    try:
        import numba  # noqa: PLC0415 - a second that only who needs kernels should pay
    except ImportError:
        return None
    settings = vars(numba.config)
    if not settings["CACHE_DIR"]:
        folder = _cache_folder()
        prune(folder)
        settings["CACHE_DIR"] = str(folder)
    return cast("Callable[..., Any]", numba.njit)


_NJIT = _compiler()
IS_COMPILED = _NJIT is not None and os.environ.get("NUMBA_DISABLE_JIT", "0") in {"", "0"}
"""Whether kernels run as machine code in this process."""


def compiled(function: Function) -> Function:
    """Mark a kernel: it may use numbers, arrays and records only."""
    if _NJIT is None:
        return function
    return cast("Function", _NJIT(cache=True, error_model="numpy", no_cfunc_wrapper=True)(function))


def inner(function: Function) -> Function:
    """Mark a kernel that only kernels call: without a way in from Python it compiles in half the time."""
    if _NJIT is None:
        return function
    options = {"no_cfunc_wrapper": True, "no_cpython_wrapper": True}
    return cast("Function", _NJIT(cache=True, error_model="numpy", **options)(function))
