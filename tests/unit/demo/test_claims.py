"""What the runs are said to show: each claim can hold, fail, and be left open."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sluice.demo.arrivals import Arrival
from sluice.demo.claims import claims, throughput_difference, ttft_difference
from sluice.demo.document import document
from sluice.demo.gate_watch import GateReading
from sluice.demo.lateness import Lateness
from sluice.demo.load import Happening
from sluice.demo.record import Record
from sluice.demo.run import Busyness, GateAccount, Run
from sluice.demo.scene import SCENE, Control
from sluice.demo.summary import Outcome

QUIET = Busyness(sending=Lateness(), iterating=Lateness(), load_average=0.1)
CALM = SCENE.acts[0]


def record(at: float, ttft: float, workload: str = "chat", end: Happening = Happening.DONE) -> Record:
    arrival = Arrival(
        at_seconds=at, workload=workload, prompt_tokens=1000, output_tokens=100, patience_seconds=9.0, body_bytes=4000
    )
    return Record(arrival=arrival, sent_at=at, ttft_seconds=ttft, end=end, ended_at=at + ttft + 1.0)


def run(control: Control, calm: float, later: float, **fields: object) -> Run:
    """A request every tenth of a second: TTFT ``calm`` in the first act, ``later`` afterwards."""
    times = [0.1 * number for number in range(int(10 * SCENE.seconds))]
    records = {number: record(at, calm if at < CALM.seconds else later) for number, at in enumerate(times)}
    gate = None
    if control is Control.GATE:
        gate = GateAccount(reading=GateReading(), obeyed_seconds=(0.03, 0.05))
    made = Run(control=control, scene=SCENE, moments=(), records=records, processors={}, busyness=QUIET, gate=gate)
    return replace(made, **fields)  # type: ignore[arg-type] # the fields of one test


def verdicts(*runs: Run) -> dict[str, bool | None]:
    return {claim.name: claim.holds for claim in claims(runs)}


NONE = run(Control.NONE, 0.2, 3.0)
LIMITS = run(Control.LIMITS, 0.2, 1.9)
GATE = run(Control.GATE, 0.2, 0.3)
NO_HARM, WORTH = "no harm at low load", "the gate earns no less than limits"
NEAR, IDLE, OBEYS = (
    "the protected class stays near its TTFT",
    "nothing waits while something idles",
    "the gate obeys at once",
)


def test_all_claims_hold_where_the_gate_does_what_it_should() -> None:
    assert verdicts(NONE, LIMITS, GATE) == {
        NO_HARM: True,
        WORTH: True,
        NEAR: True,
        IDLE: True,
        OBEYS: True,
        "limits only where the plan rations": True,
    }


def harmful() -> GateAccount:
    return GateAccount(reading=GateReading(idle_while_waiting_seconds=2.0), obeyed_seconds=(0.4,))


@pytest.mark.parametrize(
    ("claim", "gate"),
    [
        (NO_HARM, run(Control.GATE, 0.21, 0.3)),
        (WORTH, run(Control.GATE, 0.2, 2.5)),
        (NEAR, run(Control.GATE, 0.2, 0.5)),
        (IDLE, run(Control.GATE, 0.2, 0.3, gate=harmful())),
        (OBEYS, run(Control.GATE, 0.2, 0.3, gate=harmful())),
    ],
)
def test_each_claim_fails_where_it_is_not_so(claim: str, gate: Run) -> None:
    assert verdicts(NONE, LIMITS, gate)[claim] is False


def test_no_harm_is_left_open_where_chance_is_larger_than_the_bar() -> None:
    noisy = {
        number: replace_ttft(one, 0.1 if number % 37 < 18 else 0.3) if number < 160 else one
        for number, one in GATE.records.items()
    }
    difference = ttft_difference(NONE, replace(GATE, records=noisy), CALM)
    assert difference is not None
    assert difference.margin > 0.02
    assert verdicts(NONE, replace(GATE, records=noisy))[NO_HARM] is None


def replace_ttft(one: Record, ttft: float) -> Record:
    return record(one.arrival.at_seconds, ttft)


def test_answers_that_never_came_are_missing_from_throughput() -> None:
    lost = {
        n: record(one.arrival.at_seconds, 0.2, end=Happening.GONE) if n < 16 else one for n, one in GATE.records.items()
    }
    assert throughput_difference(NONE, GATE, CALM) == 0.0
    assert throughput_difference(NONE, replace(GATE, records=lost), CALM) == pytest.approx(-0.1, abs=0.01)
    assert verdicts(NONE, replace(GATE, records=lost))[NO_HARM] is False


def test_a_control_that_did_not_play_is_not_judged() -> None:
    assert set(verdicts(NONE)) == set()
    assert set(verdicts(NONE, LIMITS)) == {"limits only where the plan rations"}


def test_without_a_calm_act_there_is_nothing_to_compare_the_burst_with() -> None:
    runs = [replace(each, scene=SCENE.playing(["burst", "ramp"])) for each in (NONE, GATE)]
    assert set(verdicts(*runs)) == {IDLE, OBEYS}


def test_a_busy_machine_takes_the_outcomes_credit() -> None:
    late = Lateness()
    late.add(0.5)
    busy = replace(GATE, busyness=replace(QUIET, iterating=late))
    outcome = Outcome(scene=SCENE, seed=1, unit_rate=10.0, runs=(NONE, busy))
    assert not outcome.trusted
    assert document(outcome)["trusted"] is False
    assert document(outcome)["controls"]["none"]["busyness"]["trusted"] is True


def test_value_is_that_of_the_requests_that_came_in_an_act() -> None:
    service = SCENE.service("chat")
    each = service.value(1000, 100)
    assert NONE.value() == pytest.approx(10 * each, rel=1e-2)
    assert NONE.good_value(CALM) == pytest.approx(10 * each, rel=1e-2)
    assert NONE.good_value(SCENE.acts[1]) == 0.0
