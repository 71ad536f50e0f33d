"""What keeps a plan still: conflicts are told and applied, the order dwells, and no solve runs that cannot matter."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from tests.values import pool

from sluice.deciding import decide as deciding
from sluice.deciding.decide import DecideMemory, decide
from sluice.deciding.estimate import EstimateMemory, estimate
from sluice.deciding.unmoved import LARGEST_PROGRAM_ROWS, re_solve_cannot_matter
from sluice.model.decision import Decision
from sluice.model.demand import Demand
from sluice.model.fleet import (
    ExternalPrices,
    Fleet,
    Hardness,
    MetricsSettings,
    Sli,
    SliSignal,
    SliStatistic,
    WorkloadClass,
)
from sluice.model.reasons import Finding, Reason
from sluice.model.signal import Sample, Signal, Source
from sluice.model.snapshot import ClassSamples, Observation, PoolSupply, Snapshot
from sluice.planning import Outcome, Problem
from sluice.planning import plan as solve
from sluice.policy.agreement import plans_agree

NOW = 1_000_000.0
FLEET = Fleet(
    namespace="default",
    name="llama",
    pools=(pool("a100"),),
    metrics=MetricsSettings(prometheus_url="http://prometheus"),
)
LONG = WorkloadClass(
    name="long",
    prompt_token_price=0.1,
    output_token_price=0.2,
    prior_rate=2.0,
    prior_prompt_tokens=300.0,
    prior_output_tokens=1000.0,
    patience_seconds=10.0,
)
SHORT = replace(LONG, name="short", prior_prompt_tokens=3000.0, prior_output_tokens=400.0)


def promised(workload: WorkloadClass, share: float) -> WorkloadClass:
    """``workload`` with a hard promise to serve ``share`` of its requests."""
    sli = Sli(
        signal=SliSignal.SERVED_FRACTION,
        statistic=SliStatistic.MEAN,
        target_seconds=None,
        fraction=share,
        hardness=Hardness.HARD,
        penalty=0.0,
    )
    return replace(workload, slis=(sli,))


def world(
    now: float,
    classes: tuple[WorkloadClass, ...] = (LONG, SHORT),
    *,
    rates: tuple[float, ...] = (2.0, 2.0),
    answers: float | None = None,
    replicas: int = 4,
) -> Snapshot:
    """Measured rates, and ``answers`` output tokens of the first class where they are measured too."""

    def sample(value: float) -> Sample:
        return Sample(value=value, at_seconds=now, source=Source.ENVOY)

    observed = {}
    for workload, rate in zip(classes, rates, strict=True):
        samples = {Signal.OFFERED_RATE: sample(rate)}
        if answers is not None and workload is classes[0]:
            samples[Signal.OUTPUT_TOKENS] = sample(answers)
        observed[workload.name] = ClassSamples(samples=samples)
    return Snapshot(
        now=now,
        fleet=FLEET,
        classes=classes,
        supplies=(PoolSupply(pool="a100", ready=replicas, source=Source.ENDPOINTS),),
        observation=Observation(classes=observed),
    )


class Operator:
    """Several passes in a row, with the memories between them."""

    def __init__(self) -> None:
        self.estimates, self.memory = EstimateMemory(), DecideMemory()

    def __call__(self, snapshot: Snapshot) -> Decision:
        demand, self.estimates = estimate(snapshot, self.estimates)
        decision, self.memory = decide(snapshot, demand, self.memory)
        return decision


def finding(decision: Decision, reason: Reason) -> Finding:
    return next(entry for entry in decision.findings if entry.reason is reason)


@pytest.fixture
def solves(monkeypatch: pytest.MonkeyPatch) -> list[Problem]:
    """Every problem that was solved."""
    asked: list[Problem] = []

    def counted(problem: Problem, *, now: float) -> Outcome:
        asked.append(problem)
        return solve(problem, now=now)

    monkeypatch.setattr(deciding, "solve", counted)
    return asked


def order(decision: Decision) -> list[str]:
    assert decision.plan is not None
    return [entry.name for entry in sorted(decision.plan.classes, key=lambda entry: -entry.index)]


def test_promises_that_cannot_hold_together_are_told_while_the_relaxed_plan_is_applied() -> None:
    both = (promised(LONG, 0.95), promised(SHORT, 0.95))
    decision = Operator()(world(NOW, both, replicas=2))
    told = finding(decision, Reason.INFEASIBLE)
    assert not told.blocking
    assert "served:long" in told.message
    assert "relaxed to" in told.message
    assert decision.adopted
    assert decision.targets is not None
    assert Reason.OPTIMAL not in {entry.reason for entry in decision.findings}


def test_a_conflict_that_ends_is_another_plan_and_is_optimal_again() -> None:
    operator = Operator()
    first = operator(world(NOW, (promised(LONG, 0.95), promised(SHORT, 0.95)), replicas=2))
    second = operator(world(NOW + 10, replicas=2))
    assert second.adopted
    assert first.plan is not None
    assert second.plan is not None
    assert (first.plan.conflict is None, second.plan.conflict is None) == (False, True)
    assert finding(second, Reason.OPTIMAL)


def test_a_conflict_is_solved_anew_in_every_pass(solves: list[Problem]) -> None:
    operator = Operator()
    for step in range(3):
        operator(world(NOW + 10 * step, (promised(LONG, 0.95), promised(SHORT, 0.95)), replicas=2))
    assert len(solves) == 3


def test_noise_does_not_turn_the_order_and_a_lasting_change_does_after_the_dwell() -> None:
    """Answers a hundred times shorter put the class before the other, once they last."""
    operator = Operator()
    before = order(operator(world(NOW, answers=1000.0)))
    flipped = [order(operator(world(NOW + 10 * step, answers=10.0))) for step in range(1, 9)]
    assert before == ["short", "long"]
    dwell = int(FLEET.control.dwell_seconds) // 10
    assert [entry == before for entry in flipped] == [True] * dwell + [False] * (8 - dwell)


def test_an_operator_that_starts_anew_goes_on_from_the_order_of_the_plan_in_force() -> None:
    first, second = Operator(), Operator()
    before = order(first(world(NOW, answers=1000.0)))
    second.memory = DecideMemory(plan=first.memory.plan)
    assert order(second(world(NOW + 10, answers=10.0))) == before


def test_no_solve_is_run_while_the_corner_of_the_plan_holds(solves: list[Problem]) -> None:
    operator = Operator()
    first = operator(world(NOW))
    for step in range(1, 5):
        decision = operator(world(NOW + 10 * step, rates=(2.0 + 0.01 * (step % 2), 2.0)))
        assert decision.plan is first.plan
        assert finding(decision, Reason.OPTIMAL)
    assert len(solves) == 1


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(world(NOW + 10, rates=(4.0, 2.0)), id="demand beyond the dead band"),
        pytest.param(world(NOW + 10, replicas=5), id="another replica"),
        pytest.param(world(NOW + 10, (replace(LONG, output_token_price=0.21), SHORT)), id="another price"),
        pytest.param(world(NOW + 10, (LONG, promised(SHORT, 0.2))), id="another promise"),
        pytest.param(world(NOW + 10, (replace(LONG, patience_seconds=9.9), SHORT)), id="another patience"),
    ],
)
def test_a_solve_is_run_where_it_may_matter(other: Snapshot, solves: list[Problem]) -> None:
    operator = Operator()
    operator(world(NOW))
    operator(other)
    assert len(solves) == 2


def test_a_solve_is_run_while_the_order_is_unsettled(solves: list[Problem]) -> None:
    """Otherwise a difference that lasts would never be adopted: equal estimates would skip every solve."""
    operator = Operator()
    operator(world(NOW, answers=1000.0))
    for step in range(1, 4):
        operator(world(NOW + 10 * step, answers=10.0))
    assert len(solves) == 4


def test_a_skipped_solve_would_have_ended_in_the_same_plan() -> None:
    """Random estimates around random demands: wherever the test says that a solve cannot matter, it does not."""
    draw, skipped = random.Random(4), 0
    for _ in range(60):
        base = world(NOW, rates=(draw.uniform(0.5, 4), draw.uniform(0.5, 4)))
        demand, _ = estimate(base, EstimateMemory())
        found = solve(problem(demand), now=NOW)
        assert found.plan is not None
        near = problem(nudged(demand, draw))
        if re_solve_cannot_matter(found.answer, found.plan, near, 0.05):
            skipped += 1
            again = solve(near, now=NOW).plan
            assert again is not None
            assert plans_agree(found.plan, again, 0.05)
    assert skipped >= 20


def problem(demand: Demand) -> Problem:
    return Problem.of(FLEET, (LONG, SHORT), demand, (PoolSupply(pool="a100", ready=4, source=Source.ENDPOINTS),))


def nudged(demand: Demand, draw: random.Random) -> Demand:
    """The demand with every rate and length up to 2 % off."""
    return replace(
        demand,
        classes=tuple(
            replace(
                entry,
                rate=replace(entry.rate, value=entry.rate.value * draw.uniform(0.98, 1.02)),
                output_tokens=replace(entry.output_tokens, value=entry.output_tokens.value * draw.uniform(0.98, 1.02)),
            )
            for entry in demand.classes
        ),
    )


def test_a_large_program_is_solved_without_asking() -> None:
    many = tuple(replace(LONG, name=f"class-{i}") for i in range(LARGEST_PROGRAM_ROWS))
    demand, _ = estimate(world(NOW, many, rates=(1.0,) * len(many)), EstimateMemory())
    supplies = (PoolSupply(pool="a100", ready=4, source=Source.ENDPOINTS),)
    asked = Problem.of(FLEET, many, demand, supplies)
    found = solve(asked, now=NOW)
    assert found.plan is not None
    assert not re_solve_cannot_matter(found.answer, found.plan, asked, 0.05)


def test_an_external_pool_is_planned_with_while_no_replica_is_ready() -> None:
    api = replace(FLEET.pools[0], name="api", external=ExternalPrices(prompt_token_cost=0.05, output_token_cost=0.1))
    base = world(NOW, replicas=0)
    without = Operator()(base)
    decision = Operator()(replace(base, fleet=replace(FLEET, pools=(*FLEET.pools, api))))
    assert finding(without, Reason.NO_REPLICAS)
    assert decision.plan is not None
    assert decision.targets is not None
    assert [dict(target.weights)["api"] for target in decision.targets.classes] == [1000, 1000]
