"""Which requests the gate starts, from views as a gate would hold them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sluice.model.plan import Band
from sluice.policy.admission import Budget, GateView, LaneTerms, Memory, ReplicaView, Waiting
from sluice.policy.kernels import Late
from sluice.policy.orders import (
    BANDS,
    CAPPED_GATE,
    EARLIEST_DEADLINE,
    FIRST_COME,
    GATE,
    PRIORITY,
    QUEUE_GATE,
    keeping_promises,
    with_reserve,
)

CHAT = LaneTerms(name="chat", target=4.0, queue_target=0.0, rate=2.0, index=1.0, promise_seconds=1.0)
CODE = LaneTerms(name="code", target=1.0, queue_target=5.0, rate=1.0, index=3.0, promise_seconds=5.0)
ONE = Budget(least_requests=1)


def view(
    *waiting: tuple[str, float], in_prefill: tuple[int, int] = (0, 0), lanes: tuple[LaneTerms, ...] = (CHAT, CODE)
) -> GateView:
    """One idle replica; (lane, arrival) of each waiting request, of 100 tokens."""
    return GateView(
        lanes=lanes,
        waiting=tuple(
            Waiting(request_id=f"{lane}@{arrival:g}", lane=lane, arrival=arrival, prompt_tokens=100.0)
            for lane, arrival in waiting
        ),
        in_prefill=in_prefill,
        replicas=(ReplicaView(name="r0"),),
    )


BOTH = view(("chat", 0.0), ("code", 0.1), ("chat", 0.2))
CASES = {
    "first come, first served": (FIRST_COME, BOTH, ["chat@0"]),
    "the class furthest below its target goes first": (GATE, replace(BOTH, in_prefill=(1, 1)), ["chat@0"]),
    "a tie in occupancy goes to the queue furthest above plan": (GATE, BOTH, ["chat@0"]),
    "a class above target is still admitted alone": (GATE, view(("code", 0.0), in_prefill=(0, 9)), ["code@0"]),
    "unless the gate is capped": (CAPPED_GATE, view(("code", 0.0), in_prefill=(0, 1)), []),
    "the queue furthest above plan goes first": (QUEUE_GATE, BOTH, ["chat@0"]),
    "the highest index goes first": (PRIORITY, BOTH, ["code@0.1"]),
    "the earliest promise goes first": (EARLIEST_DEADLINE, view(("code", 0.0), ("chat", 0.5)), ["chat@0.5"]),
    "nobody waits, nobody starts": (FIRST_COME, view(), []),
}


@pytest.mark.parametrize("case", CASES)
def test_one_idle_replica_takes(case: str) -> None:
    policy, held, expected = CASES[case]
    assert [start.request_id for start in policy.decide(held, 1.0, ONE)] == expected


def test_the_budget_bounds_unfinished_tokens_not_requests() -> None:
    many = view(*(("chat", k / 10) for k in range(9)))
    starts = FIRST_COME.decide(many, 1.0, Budget(least_requests=2, tokens=350.0))
    assert [start.request_id for start in starts] == ["chat@0", "chat@0.1", "chat@0.2", "chat@0.3"]


def test_the_replica_with_least_unfinished_tokens_takes_the_next() -> None:
    replicas = (ReplicaView(name="busy", unfinished_requests=1, unfinished_tokens=90.0), ReplicaView(name="idle"))
    held = replace(view(("chat", 0.0), ("chat", 0.1)), replicas=replicas)
    assert [start.replica for start in FIRST_COME.decide(held, 1.0)] == ["idle", "busy"]


def test_an_unready_or_full_replica_takes_nothing() -> None:
    replicas = (ReplicaView(name="gone", ready=False), ReplicaView(name="full", free_slots=0))
    assert FIRST_COME.decide(replace(BOTH, replicas=replicas), 1.0) == ()


RATIONED = replace(CODE, band=Band.RATIONED)
BANDED = (CHAT, RATIONED)


def test_a_fully_planned_class_goes_before_a_rationed_one_of_higher_index() -> None:
    held = view(("code", 0.0), ("chat", 0.5), lanes=BANDED)
    assert [start.request_id for start in BANDS.decide(held, 1.0, ONE)] == ["chat@0.5"]


def test_a_rationed_class_with_credit_goes_before_idle_only_and_without_it_by_index() -> None:
    lanes = (replace(CHAT, band=Band.IDLE_ONLY, index=9.0), RATIONED)
    held = view(("chat", 0.0), ("code", 0.5), lanes=lanes)
    rich = replace(held, memory=Memory(credit=(0.0, 1.0), accrued=1.0))
    poor = replace(held, memory=Memory(credit=(0.0, 0.2), accrued=1.0))
    assert [start.request_id for start in BANDS.decide(rich, 1.0, ONE)] == ["code@0.5"]
    assert [start.request_id for start in BANDS.decide(poor, 1.0, ONE)] == ["chat@0"]


def test_credit_fills_at_the_planned_rate_and_is_spent_by_starts() -> None:
    held = replace(view(("code", 0.0), lanes=BANDED), memory=Memory(credit=(0.0, 0.0), accrued=0.0))
    assert BANDS.after(held, 2.0, ONE).credit[1] == pytest.approx(1.0)
    assert BANDS.after(replace(held, waiting=()), 2.0, ONE).credit[1] == pytest.approx(2.0)


KEEPING = keeping_promises(FIRST_COME, prefill_seconds_per_token=0.001)


def test_a_lost_promise_waits_behind_one_that_can_be_kept() -> None:
    held = view(("chat", 0.0), ("chat", 1.0))
    assert [(s.request_id, s.late) for s in KEEPING.decide(held, 1.5, Budget(least_requests=2))] == [
        ("chat@1", False),
        ("chat@0", True),
    ]


def test_a_lost_promise_is_refused_where_the_policy_says_so() -> None:
    refusing = keeping_promises(FIRST_COME, prefill_seconds_per_token=0.001, late=Late.REFUSE)
    held = view(("chat", 0.0), ("chat", 1.0))
    assert refusing.refusals(held, 1.5) == ("chat@0",)
    assert [start.request_id for start in refusing.decide(held, 1.5, Budget(least_requests=2))] == ["chat@1"]
    assert KEEPING.refusals(held, 1.5) == ()


def test_the_reserve_holds_the_late_back_until_every_replica_has_budget_and_one_is_idle() -> None:
    policy = with_reserve(KEEPING)
    idle, busy = ReplicaView(name="idle"), ReplicaView(name="busy", unfinished_requests=1, unfinished_tokens=90.0)
    late = replace(view(("chat", 0.0)), replicas=(idle, busy))
    assert policy.decide(late, 9.0, ONE) == ()
    assert [s.replica for s in policy.decide(late, 9.0, Budget(least_requests=2))] == ["idle"]
    assert policy.decide(replace(late, replicas=(busy, busy)), 9.0, Budget(least_requests=2)) == ()


def test_deciding_changes_nothing_in_the_view() -> None:
    held = replace(BOTH, memory=Memory(credit=(1.0, 1.0), accrued=0.5))
    assert BANDS.decide(held, 1.0) == BANDS.decide(held, 1.0)
