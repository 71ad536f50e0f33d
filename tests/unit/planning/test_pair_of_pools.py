"""The table in operator/README.md: four classes on a measured A100 + H100 pair, computed and compared."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from sluice.model.fleet import Charging
from sluice.model.law import MeasuredPoint
from sluice.model.plan import Plan
from sluice.planning import plan
from sluice.planning.problem import ClassInput, PoolInput, Problem
from sluice.planning.promises import Promise, PromiseKind
from sluice.planning.tables import mean_context, modes_of_table

ROOT = Path(__file__).resolve().parents[3]
TABLE = ROOT / "tests" / "data" / "iteration-times" / "llama-3.1-8b.csv"
HOUR = 3600.0

CLASSES = (
    ("chat", 1155, 211, 0.15, 0.60, 40.0, 20.0),
    ("code", 2048, 28, 0.20, 0.60, 30.0, 5.0),
    ("summarise", 6000, 250, 0.10, 0.40, 6.0, 60.0),
    ("batch", 1500, 600, 0.05, 0.20, 14.0, None),
)
"""Name, tokens in and out, prices per million, requests/s, patience. Chat and code: means of the Azure traces."""

INDICATORS = (
    ("TTFT of chat within 1 s", Promise(kind=PromiseKind.TTFT, class_name="chat", target=1.0)),
    ("TTFT of summarise within 4 s", Promise(kind=PromiseKind.TTFT, class_name="summarise", target=4.0)),
    ("TPOT of the fleet, mean over tokens, 50 ms", Promise(kind=PromiseKind.TPOT, target=0.05)),
    ("TPOT of chat 40 ms", Promise(kind=PromiseKind.TPOT, class_name="chat", target=0.04)),
    ("half of batch served", Promise(kind=PromiseKind.SERVED, class_name="batch", target=0.5)),
    ("served shares at most 20 points apart", Promise(kind=PromiseKind.SERVED_FAIRNESS, target=0.2)),
)


def pair() -> Problem:
    classes = tuple(
        ClassInput(
            name=name,
            rate=rate,
            prompt_tokens=prompt,
            uncached_prompt_tokens=prompt,
            output_tokens=output,
            prompt_token_price=prompt_price / 1e6,
            output_token_price=output_price / 1e6,
            abandonment_rate=0.0 if patience is None else 1 / patience,
        )
        for name, prompt, output, prompt_price, output_price, rate, patience in CLASSES
    )
    context = mean_context((entry.rate, entry.prompt_tokens, entry.output_tokens) for entry in classes)
    pools = tuple(
        PoolInput(name=name, ready=ready, modes=modes_of_table(_points(name), context, slots, 2048, 4096)[0])
        for name, ready, slots in (("a100", 4, 128), ("h100", 2, 256))
    )
    return Problem(fleet="default/pair", charging=Charging.BUNDLED, pools=pools, classes=classes)


def _points(pool: str) -> list[MeasuredPoint]:
    with TABLE.open(newline="") as file:
        return [
            MeasuredPoint(
                chunk_tokens=int(row["chunk_tokens"]),
                batch=int(row["batch"]),
                context_tokens=int(row["context_tokens"]),
                seconds=float(row["milliseconds"]) / 1000,
            )
            for row in csv.DictReader(file)
            if row["gpu"].startswith(pool)
        ]


def solved(*promises: Promise) -> Plan:
    outcome = plan(replace(pair(), promises=promises), now=0.0)
    assert outcome.plan is not None, outcome.message
    assert outcome.plan.conflict is None
    return outcome.plan


def tables() -> tuple[str, str, str]:
    """The three tables as the document has them."""
    free = solved()
    classes = [
        "| class | offered/s | admitted/s | on a100 / h100 | one more request earns | standing |",
        "|---|---|---|---|---|---|",
    ]
    for entry in free.classes:
        split = " / ".join(f"{part.admitted_rate:.1f}" for part in entry.pools)
        earns = f"{1e6 * (entry.marginal_value or 0.0):.0f} per million"
        rates = f"{entry.arrival_rate:.0f} | {entry.admitted_rate:.1f}"
        classes.append(f"| {entry.name} | {rates} | {split} | {earns} | {entry.standing} |")
    pools = [
        "| pool | replicas | time with a prefill | best chunk | batch cap | one more replica earns |",
        "|---|---|---|---|---|---|",
    ]
    for pool in free.pools:
        pools.append(
            f"| {pool.name} | {pool.replicas} | {pool.mixed / pool.replicas:.0%} | {pool.chunk_tokens:.0f} | "
            f"{pool.batch_cap:.0f} | {pool.value_per_replica_hour:.2f} per hour |"
        )
    costs = ["| what is promised | value per hour | cost |", "|---|---|---|"]
    costs.append(f"| nothing | {free.value_per_second * HOUR:.2f} | |")
    for label, promise in INDICATORS:
        kept = solved(promise).value_per_second
        cost = 1 - kept / free.value_per_second
        costs.append(f"| {label} | {kept * HOUR:.2f} | {f'{cost:.1%}' if cost > 5e-4 else 'free'} |")
    return "\n".join(classes), "\n".join(pools), "\n".join(costs)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["classes", "pools", "what each promise costs"])
def test_the_document_shows_what_the_planner_says(which: int) -> None:
    assert tables()[which] in (ROOT / "operator" / "README.md").read_text(encoding="utf-8")
