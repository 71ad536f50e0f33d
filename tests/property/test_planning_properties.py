"""What must hold for every plan, whatever the numbers."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.contract.planning_instances import problem

from sluice.model.plan import Plan, Verdict
from sluice.planning import plan
from sluice.planning.answer import Answer, answer
from sluice.planning.explain import engine_value
from sluice.planning.problem import Problem
from sluice.planning.promises import Promise, PromiseKind
from sluice.planning.sensitivity import sensitivities, still_optimal

problems = st.integers(0, 10**6).map(problem)
EXAMPLES = settings(max_examples=60, deadline=None)


def optimum(entry: Problem) -> Answer:
    """The answer, for instances whose promises can hold together."""
    found = answer(entry, ties=False)
    assume(found.solution.verdict is not Verdict.INFEASIBLE)
    assert found.is_optimal, found.solution.message
    return found


def value(entry: Problem) -> float:
    return optimum(entry).value


def planned(entry: Problem) -> Plan:
    outcome = plan(entry, now=0.0)
    assert outcome.plan is not None, outcome.message
    return outcome.plan


def slack(number: float) -> float:
    return 1e-7 * max(1.0, abs(number))


def without(entry: Problem, *kinds: PromiseKind) -> Problem:
    return replace(entry, promises=tuple(p for p in entry.promises if p.kind not in kinds))


@EXAMPLES
@given(problems, st.integers(0, 5))
def test_more_replicas_never_lower_the_value_before_their_cost(entry: Problem, which: int) -> None:
    """The slot-weighted ratio aside: it keeps every engine on, so one more must be filled as the others are."""
    entry = without(replace(entry, charge_replicas=False), PromiseKind.SLOT_TPOT)
    own = [k for k, pool in enumerate(entry.pools) if pool.external is None]
    chosen = own[which % len(own)]
    pools = tuple(replace(pool, ready=pool.ready + (k == chosen)) for k, pool in enumerate(entry.pools))
    before = value(entry)
    after = value(replace(entry, pools=pools))
    assert after >= before - slack(before)


@EXAMPLES
@given(
    problems,
    st.sampled_from([PromiseKind.SERVED_FAIRNESS, PromiseKind.PREFILL_FAIRNESS, PromiseKind.DECODE_FAIRNESS]),
    st.integers(0, 200),
    st.booleans(),
    st.integers(0, 5),
)
def test_more_replicas_never_lower_the_value_of_a_fair_fleet(
    entry: Problem, kind: PromiseKind, target_permille: int, hard: bool, which: int
) -> None:
    """Shares of demand do not know of engines, and per engine the same jobs are closer together among more.

    Differences are declared in permille: one of 1e-13 would ask more of floating point than a certificate proves.
    """
    fair = Promise(kind=kind, target=target_permille / 1000, hard=hard, penalty=0.0 if hard else 1000.0)
    entry = replace(entry, charge_replicas=False, promises=(fair,))
    assume(not kind.is_paper_form or all(len(pool.modes) == 2 for pool in entry.pools))
    own = [k for k, pool in enumerate(entry.pools) if pool.external is None]
    pools = tuple(replace(pool, ready=pool.ready + (k == own[which % len(own)])) for k, pool in enumerate(entry.pools))
    before = value(entry)
    assert value(replace(entry, pools=pools)) >= before - slack(before)


@EXAMPLES
@given(problems, st.integers(0, 20), st.floats(0.01, 0.5))
def test_a_looser_promise_never_lowers_the_value(entry: Problem, which: int, by: float) -> None:
    assume(entry.promises)
    chosen = entry.promises[which % len(entry.promises)]
    factor = 1 - by if chosen.kind.is_floor else 1 + by
    looser = tuple(replace(p, target=p.target * factor) if p is chosen else p for p in entry.promises)
    before = value(entry)
    assert value(replace(entry, promises=looser)) >= before - slack(before)


@EXAMPLES
@given(problems, st.integers(0, 20))
def test_a_price_of_arrivals_lies_between_the_finite_differences(entry: Problem, which: int) -> None:
    """Concave in the rate of a class that nothing was promised to."""
    entry = replace(entry, promises=())
    place = which % len(entry.classes)
    chosen = entry.classes[place]
    assume(chosen.rate > 0 and chosen.rate_spread == 0)
    found = optimum(entry)
    step = 1e-3 * chosen.rate
    left, right = (_with_rate(entry, place, chosen.rate + sign * step) for sign in (-1, 1))
    price = float(found.solution.dual[found.formulation.admission.slice][place])
    room = 1e-6 * max(1.0, abs(found.value)) / step * 1e-3 + 1e-7 * abs(price)
    assert (value(right) - found.value) / step - room <= price <= (found.value - value(left)) / step + room


@EXAMPLES
@given(problems, st.integers(0, 5))
def test_the_value_of_an_engine_lies_between_the_finite_differences(entry: Problem, which: int) -> None:
    entry = without(replace(entry, charge_replicas=False), PromiseKind.SLOT_TPOT)
    entry = without(entry, PromiseKind.PREFILL_FAIRNESS, PromiseKind.DECODE_FAIRNESS)
    entry = replace(entry, pools=tuple(pool for pool in entry.pools if pool.name != "twin"))
    names = {pool.name for pool in entry.pools}
    assume(all(set(entry_.pools) <= names for entry_ in entry.classes))
    found = optimum(entry)
    own = [columns for columns in found.formulation.pools if columns.group.first.external is None]
    columns = own[which % len(own)]
    assume(len(columns.group.pools) == 1)
    price = engine_value(found.formulation, columns, found.solution)
    place, step = columns.group.places[0], 1e-3

    def at(change: float) -> float:
        pools = list(entry.pools)
        pools[place] = replace(pools[place], reserved=pools[place].reserved - change)
        return value(replace(entry, pools=tuple(pools)))

    room = 1e-6 * max(1.0, abs(found.value))
    assert (at(step) - found.value) / step - room <= price <= (found.value - at(-step)) / step + room


def _with_rate(entry: Problem, place: int, rate: float) -> Problem:
    classes = tuple(replace(c, rate=rate) if k == place else c for k, c in enumerate(entry.classes))
    return replace(entry, classes=classes)


@EXAMPLES
@given(problems, st.randoms(use_true_random=False))
def test_permuting_classes_permutes_the_plan(entry: Problem, shuffle: random.Random) -> None:
    order = list(range(len(entry.classes)))
    shuffle.shuffle(order)
    before = planned(entry)
    after = planned(replace(entry, classes=tuple(entry.classes[k] for k in order)))
    assert after.value_per_second == pytest.approx(before.value_per_second, rel=1e-6, abs=1e-6)
    for place, k in enumerate(order):
        old, new = before.classes[k], after.classes[place]
        assert new.name == old.name
        if before.conflict is None and not entry.promises and not any(c.rate_spread for c in entry.classes):
            assert new.admitted_rate == pytest.approx(old.admitted_rate, rel=1e-5, abs=1e-6)


@EXAMPLES
@given(problems, st.floats(0.01, 100))
def test_scaling_money_scales_value_and_prices_and_moves_nothing(entry: Problem, factor: float) -> None:
    def scaled(promise: Promise) -> Promise:
        return replace(promise, penalty=promise.penalty * factor)

    classes = tuple(
        replace(c, prompt_token_price=c.prompt_token_price * factor, output_token_price=c.output_token_price * factor)
        for c in entry.classes
    )
    pools = tuple(
        replace(
            p,
            cost_per_hour=p.cost_per_hour * factor,
            transfer_cost_per_token=p.transfer_cost_per_token * factor,
            external=p.external
            and replace(
                p.external,
                prompt_token_cost=p.external.prompt_token_cost * factor,
                output_token_cost=p.external.output_token_cost * factor,
            ),
        )
        for p in entry.pools
    )
    richer = replace(entry, classes=classes, pools=pools, promises=tuple(map(scaled, entry.promises)))
    before, after = planned(entry), planned(richer)
    assert after.value_per_second == pytest.approx(before.value_per_second * factor, rel=1e-6, abs=1e-6 * factor)
    for old, new in zip(before.pools, after.pools, strict=True):
        if old.value_per_replica_hour is not None and before.conflict is None:
            room = 1e-5 * max(1.0, before.value_per_second) * factor
            assert new.value_per_replica_hour == pytest.approx(old.value_per_replica_hour * factor, rel=1e-4, abs=room)


@EXAMPLES
@given(problems)
def test_no_demand_is_a_plan(entry: Problem) -> None:
    idle = replace(entry, classes=tuple(replace(c, rate=0.0) for c in entry.classes))
    assert all(c.admitted_rate == 0 and not c.rationed for c in planned(idle).classes)


@EXAMPLES
@given(problems)
def test_plans_add_up(entry: Problem) -> None:
    """Weights sum to 1000; nobody is admitted who did not come; parts are the whole; limits only where rationed."""
    for entry_plan, given_class in zip(planned(entry).classes, entry.classes, strict=True):
        assert sum(part.weight_permille for part in entry_plan.pools) == 1000
        assert entry_plan.admitted_rate <= entry_plan.arrival_rate * (1 + 1e-9) + 1e-9
        assert (entry_plan.in_flight_limit is not None) == entry_plan.rationed
        if given_class.rate_spread == 0:
            total = sum(part.admitted_rate for part in entry_plan.pools)
            assert total == pytest.approx(entry_plan.admitted_rate, rel=1e-9, abs=1e-12)


@EXAMPLES
@given(problems, st.integers(0, 20), st.floats(0.05, 0.95))
def test_inside_the_reported_rates_the_same_classes_are_served(entry: Problem, which: int, share: float) -> None:
    entry = replace(entry, promises=(), classes=tuple(replace(c, rate_spread=0.0) for c in entry.classes))
    found = optimum(entry)
    place = which % len(entry.classes)
    reported = sensitivities(found)[place]
    high = min(reported.rate_high, reported.rate_low + 100.0)
    inside = _with_rate(entry, place, reported.rate_low + share * (high - reported.rate_low))
    assert still_optimal(found, inside)
    old, new = found.solution, optimum(inside).solution
    first, second = (solution.dual[found.formulation.admission.slice] for solution in (old, new))
    assert first == pytest.approx(second, rel=1e-5, abs=1e-6 * max(1.0, abs(first).max()))


@EXAMPLES
@given(problems)
def test_the_same_problem_gives_the_same_plan(entry: Problem) -> None:
    assert planned(entry) == planned(entry)
