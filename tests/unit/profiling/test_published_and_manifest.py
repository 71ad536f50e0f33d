"""Tables and fits that cannot be used are refused with what was found; nothing is put right in silence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from sluice_profiling import published
from sluice_profiling.choice import Choice, choose
from sluice_profiling.laws import LawFit
from sluice_profiling.manifest import manifest
from sluice_profiling.measurement import Measurement, Provenance

ROWS: tuple[Measurement, ...] = next(iter(published.load().values()))
PROVENANCE = Provenance(model="m", accelerator="a", engine="e")
GOOD: Choice = choose(ROWS, 32)


def fitted(**law: float) -> Choice:
    """The good fit with other constants, seconds."""
    fit: LawFit = replace(GOOD.chosen, law=replace(GOOD.chosen.law, **law))
    return replace(GOOD, chosen=fit)


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        pytest.param(fitted(per_token_seconds=-12e-6), ["prompt token", "-12 us"], id="longer chunks were quicker"),
        pytest.param(fitted(per_token_seconds=0.0), ["prompt token", "0 us"], id="chunks cost nothing"),
        pytest.param(
            fitted(per_token_seconds=0.4e-9), ["prompt token", "0.0004 us"], id="less than the resource can hold"
        ),
        pytest.param(fitted(solo_seconds=-1e-3), ["decode-only", "-1000 us"], id="decoding took less than no time"),
    ],
)
def test_a_fit_by_which_work_is_free_is_refused_with_its_figure(choice: Choice, told: list[str]) -> None:
    with pytest.raises(ValueError, match="cannot be") as refused:
        manifest("m", PROVENANCE, choice, ROWS)
    assert [word for word in told if word not in str(refused.value)] == [], refused.value


def test_a_good_fit_is_written_as_it_was_found() -> None:
    document = yaml.safe_load(manifest("m", PROVENANCE, GOOD, ROWS))
    assert document["spec"]["perTokenNanoseconds"] == round(GOOD.chosen.law.per_token_seconds * 1e9)
    assert document["spec"]["soloNanoseconds"] == round(GOOD.chosen.law.solo_seconds * 1e9)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("a,b\n1,2\n", ["lacks the columns", "kv"], id="other columns"),
        pytest.param("model,kv,C,B,ms\nM A TP1,1024,0,1,6.1\nM A TP1,1024,0,1,slow\n", [":3:", "slow"], id="a word"),
        pytest.param("model,kv,C,B,ms\nM,1024,0,1,6.1\n", [":2:"], id="a model without its GPU"),
        pytest.param("model,kv,C,B,ms\nM A TP1,512,0,1,6.1\n", ["1024", "512"], id="another context"),
        pytest.param("model,kv,C,B,ms\n", ["none"], id="no rows"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_by_file_and_line(tmp_path: Path, text: str, told: list[str]) -> None:
    (tmp_path / "vidur_iteration_table.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=str(tmp_path)) as refused:
        published.load(tmp_path)
    assert [word for word in told if word not in str(refused.value)] == [], refused.value
