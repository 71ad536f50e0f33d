"""Two folders here bear names of the standard library; this file keeps them harmless.

``operator`` is a standard module and ``profiling`` becomes a standard package in Python
3.15 (PEP 799). A plain directory loses against both, so they are safe exactly as long as
they hold packages with names of their own and no Python file directly inside.
"""

from __future__ import annotations

import operator
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHADOWING = [folder for folder in ("operator", "profiling") if (ROOT / folder).is_dir()]
TOP_LEVEL = {
    "operator",
    "profiling",
    "crds",
    "charts",
    "tests",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
}


def python(*arguments: str, cwd: Path = ROOT, **environment: str) -> str:
    """Standard output of a fresh interpreter; its failure fails the test with what it said."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("folder", SHADOWING)
def test_a_folder_that_shadows_the_standard_library_holds_no_loose_python_file(folder: str) -> None:
    loose = sorted(path.name for path in (ROOT / folder).glob("*.py*"))
    assert loose == [], f"{folder}/ may hold packages with names of their own only"


@pytest.mark.parametrize("folder", SHADOWING)
def test_a_folder_that_shadows_the_standard_library_holds_packages_with_names_of_their_own(folder: str) -> None:
    packages = [path.parent for path in (ROOT / folder).glob("*/__init__.py")]
    assert packages != []
    assert [path.name for path in packages if path.name in sys.stdlib_module_names] == []
    assert [path.name for path in packages if not (path / "py.typed").is_file()] == []


def test_the_operator_module_of_this_very_run_is_the_standard_one() -> None:
    assert Path(operator.__file__).parent == Path(os.__file__).parent


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("-c", "import operator; operator.add(1, 2)"), id="import operator"),
        pytest.param(("-c", "import collections, asyncio"), id="import what needs operator"),
        pytest.param(("-c", "import cProfile"), id="import what needs profiling on Python 3.15"),
        pytest.param(("-m", "operator"), id="run operator as a module"),
        pytest.param(("-m", "pip", "--version"), id="run pip as a module"),
    ],
)
def test_python_started_in_the_checkout_finds_the_standard_library(arguments: tuple[str, ...]) -> None:
    python(*arguments, PYTHONPATH=str(ROOT), PYTHONSAFEPATH="")


def test_no_test_folder_is_a_package() -> None:
    """With an ``__init__.py`` in tests/, a folder of a library's name would shadow the library."""
    assert sorted((ROOT / "tests").rglob("__init__.py")) == []


def test_every_package_that_ships_is_named_for_the_wheel() -> None:
    """Without the list hatchling builds a wheel whose package cannot be imported."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shipped = set(settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    present = {
        f"{path.parent.parent.name}/{path.parent.name}" for f in SHADOWING for path in ROOT.glob(f"{f}/*/__init__.py")
    }
    assert shipped == present


def test_nothing_else_lies_at_the_top_of_the_repository() -> None:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout: nothing tells tracked files from others")
    top = {line.split("/")[0] for line in listing.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL


LOADED_AFTER = """
import sys
{statement}
print("\\n".join(sorted({{name.split(".")[0] for name in sys.modules}})))
"""
HELP = """
from sluice.cli.app import application
try:
    application(["--help"])
except SystemExit as stop:
    assert stop.code == 0, stop.code
"""


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        pytest.param("import sluice", {"torch", "kopf", "kubernetes", "ortools"}, id="import sluice is light"),
        pytest.param(HELP, {"torch", "kopf", "kubernetes", "ortools", "matplotlib"}, id="sluice --help is light"),
    ],
)
def test_what_need_not_be_loaded_is_not(statement: str, heavy: set[str]) -> None:
    loaded = set(python("-c", LOADED_AFTER.format(statement=statement)).split())
    assert "sluice" in loaded
    assert loaded & heavy == set()
