"""What counts as value, as good value, and as in flight."""

from __future__ import annotations

import pytest

from sluice.demo.arrivals import Arrival
from sluice.demo.load import Event, Happening
from sluice.demo.scene import SCENE
from sluice.demo.tally import WINDOW_SECONDS, Tally

ARRIVALS = tuple(
    Arrival(
        at_seconds=0.0, workload="chat", prompt_tokens=1000, output_tokens=500, patience_seconds=9.0, body_bytes=4000
    )
    for _ in range(4)
)
VALUE = (0.20 * 1000 + 0.80 * 500) / 1e6
PROMISE = SCENE.service("chat").promise_seconds


def counted(*events: Event) -> Tally:
    tally = Tally(SCENE, ARRIVALS)
    for event in events:
        tally.add(event)
    return tally


def sent(number: int) -> Event:
    return Event(number=number, what=Happening.SENT, at_seconds=0.0)


def done(number: int, ttft: float) -> Event:
    return Event(number=number, what=Happening.DONE, at_seconds=5.0, ttft_seconds=ttft, tpot_seconds=0.02)


def test_a_late_first_token_earns_value_but_no_good_value() -> None:
    tally = counted(sent(0), sent(1), done(0, PROMISE), done(1, PROMISE + 0.01))
    totals = tally.totals["chat"]
    assert totals.value == pytest.approx(2 * VALUE)
    assert totals.good_value == pytest.approx(VALUE)
    assert (totals.done, totals.good) == (2, 1)


def test_whoever_leaves_counts_in_the_tail_with_the_time_waited_in_vain() -> None:
    tally = counted(sent(0), sent(1), done(0, 0.5), Event(number=1, what=Happening.GONE, at_seconds=9.0))
    assert tally.totals["chat"].ttft_seconds == (0.5, 9.0)


def test_what_the_gate_held_is_told_and_what_it_let_pass_is_not() -> None:
    def first(number: int, waited: float) -> Event:
        what = Happening.FIRST
        return Event(number=number, what=what, at_seconds=1.0, ttft_seconds=1.0, waited_seconds=waited, request_id="a")

    refused = Event(number=2, what=Happening.REFUSED, at_seconds=2.0, reason="QueueFull", request_id="b")
    tally = counted(sent(0), sent(1), sent(2), first(0, 0.3), first(1, 0.001), refused)
    totals = tally.totals["chat"]
    assert totals.waited_seconds == (0.3,)
    assert totals.reasons == (("QueueFull", 1),)
    assert tally.records[0].request_id == "a"


def test_how_late_requests_were_sent_is_counted() -> None:
    tally = counted(*(Event(number=n, what=Happening.SENT, at_seconds=1.0, late_seconds=0.04 * n) for n in range(3)))
    assert tally.lateness.number == 3
    assert not tally.lateness.trusted


@pytest.mark.parametrize("what", [Happening.REFUSED, Happening.GONE, Happening.FAILED])
def test_whoever_is_refused_or_leaves_is_no_longer_in_flight_and_earns_nothing(what: Happening) -> None:
    tally = counted(sent(0), sent(1), Event(number=0, what=what, at_seconds=1.0))
    assert tally.totals["chat"].in_flight == 1
    assert tally.totals["chat"].value == 0.0


def test_live_figures_forget_what_is_older_than_their_window() -> None:
    tally = counted(sent(0), done(0, 0.1))
    assert tally.figures(6.0)["chat"].value == pytest.approx(VALUE / 6.0)
    later = tally.figures(5.0 + WINDOW_SECONDS + 0.1)["chat"]
    assert later.value == later.offered == 0.0
    assert later.tpot_seconds is None
