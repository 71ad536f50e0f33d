"""Finds, or builds once per machine, the real programs that ``tests/control`` runs.

Order of search, per program: ``KUBEBUILDER_ASSETS``, the cache folder, and last a
build from this folder's Go tool module when ``go`` is on PATH. The cache is keyed by
the module files, so a version change builds anew and an unchanged one never does.

Run as a script it builds everything and prints the folder::

    python tests/controlplane/programs.py            # build what is missing
    python tests/controlplane/programs.py --missing  # only say what is missing
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
KUBERNETES_VERSION = "v1.37.2"
_VERSION_PACKAGE = "k8s.io/component-base/version"
_LDFLAGS = (
    f"-s -w -X {_VERSION_PACKAGE}.gitVersion={KUBERNETES_VERSION} "
    f"-X {_VERSION_PACKAGE}.gitMajor=1 -X {_VERSION_PACKAGE}.gitMinor=37"
)


@dataclass(frozen=True, slots=True)
class Program:
    """One command of the Go tool module."""

    name: str
    package: str


PROGRAMS = (
    Program("etcd", "go.etcd.io/etcd/server/v3"),
    Program("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    Program("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    Program("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    Program("envoy-gateway", "github.com/envoyproxy/gateway/cmd/envoy-gateway"),
    Program("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
)


def cache_folder() -> Path:
    """The folder of built programs for exactly these module files."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        digest.update((HERE / name).read_bytes())
    digest.update(_LDFLAGS.encode())
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "sluice" / "controlplane" / digest.hexdigest()[:16]


def find(name: str) -> Path | None:
    """The program's path, or None where it is neither given nor built."""
    folders = [cache_folder()]
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        folders.insert(0, Path(assets))
    for folder in folders:
        candidate = folder / name
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    return None


def missing() -> list[Program]:
    """The programs that neither KUBEBUILDER_ASSETS nor the cache holds."""
    return [program for program in PROGRAMS if find(program.name) is None]


def module_folder(module: str) -> Path:
    """Where Go keeps the sources of ``module`` (CRDs of Envoy Gateway, stages of kwok)."""
    command = ["go", "list", "-m", "-f", "{{.Dir}}", module]
    listing = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True)
    return Path(listing.stdout.strip())


def build(programs: list[Program]) -> None:
    """Build ``programs`` into the cache, one after the other, telling how it goes."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once build once
        for position, program in enumerate(programs, start=1):
            if (folder / program.name).exists():
                continue
            started = time.monotonic()
            _say(f"[{position}/{len(programs)}] building {program.name} (some minutes) ...")
            partial = folder / f".{program.name}.partial"
            subprocess.run(
                ["go", "build", "-trimpath", "-ldflags", _LDFLAGS, "-o", str(partial), program.package],
                cwd=HERE,
                check=True,
                env={**os.environ, "CGO_ENABLED": "0"},
            )
            partial.rename(folder / program.name)
            _say(f"[{position}/{len(programs)}] {program.name}: {time.monotonic() - started:.0f} s")


def main() -> int:
    """Build what is missing, or only tell."""
    parser = argparse.ArgumentParser(description="Build the control plane that tests/control runs.")
    parser.add_argument("--missing", action="store_true", help="only name what is missing")
    arguments = parser.parse_args()
    absent = missing()
    if arguments.missing:
        sys.stdout.write("".join(f"{program.name}\n" for program in absent))
        return 0
    if absent and shutil.which("go") is None:
        names = ", ".join(program.name for program in absent)
        _say(f"not built: {names}; install Go 1.26 or set KUBEBUILDER_ASSETS. tests/control will be skipped.")
        return 0
    if absent:
        _say(f"building {len(absent)} programs once into {cache_folder()} (about 12 minutes on 2 cores)")
        build(absent)
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"controlplane: {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
