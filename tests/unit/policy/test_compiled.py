"""The cache of compiled kernels does not grow without bound."""

from __future__ import annotations

import os
from pathlib import Path

from sluice.policy.compiled import prune


def test_old_caches_go_and_the_ones_used_last_stay(tmp_path: Path) -> None:
    for age in range(6):
        folder = tmp_path / f"kernels-{age}"
        folder.mkdir()
        (folder / "index.nbi").write_text("x")
        os.utime(folder, (1000.0 - age, 1000.0 - age))
    (tmp_path / "something-else").mkdir()
    prune(tmp_path / "kernels-5", kept=2)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "kernels-0",
        "kernels-1",
        "kernels-5",
        "something-else",
    ]


def test_a_first_start_makes_its_folder(tmp_path: Path) -> None:
    prune(tmp_path / "new" / "kernels-a")
    assert (tmp_path / "new" / "kernels-a").is_dir()


def test_a_home_that_cannot_be_written_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    prune(tmp_path / "file" / "kernels-a")
    assert (tmp_path / "file").read_text() == "in the way"
