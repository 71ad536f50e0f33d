"""Compile the kernels of policies and simulator where numba is installed, and run them as they are where it is not.

One source, two ways to run it: the live gate takes one decision at a time and needs no
compiler; the simulator takes millions. With ``NUMBA_DISABLE_JIT=1`` numba itself hands
the plain functions back, which is how tests compare both ways.

Machine code is cached under a digest of every kernel source: numba's own check looks at
the file of the outermost function only, and would miss an edited policy.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])

_KERNEL_ROOMS = ("policy", "simulation")


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
    return base / "sluice" / f"kernels-{digest.hexdigest()}"


def _compiler() -> Callable[..., Any] | None:
    if os.environ.get("SLUICE_KERNELS") == "plain":  # the live gate: numba alone would double its memory
        return None
    try:
        import numba  # noqa: PLC0415 - a second that only who needs kernels should pay
    except ImportError:
        return None
    settings = vars(numba.config)
    if not settings["CACHE_DIR"]:
        settings["CACHE_DIR"] = str(_cache_folder())
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
