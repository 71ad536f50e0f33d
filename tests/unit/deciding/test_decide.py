"""The chain of checks, the safe plans, and when a plan is worth adopting."""

import importlib
import itertools
from dataclasses import replace

import pytest
from tests.values import pool

from sluice.deciding.decide import DecideMemory, decide
from sluice.deciding.estimate import EstimateMemory, estimate
from sluice.model.decision import Decision
from sluice.model.fleet import (
    ControlSettings,
    DataPlane,
    Fleet,
    LimitKind,
    MetricsSettings,
    SafePlan,
    WorkloadClass,
)
from sluice.model.plan import Verdict
from sluice.model.reasons import ConditionType, Finding, Reason
from sluice.model.signal import Gap, GapReason, Sample, Signal, Source
from sluice.model.snapshot import ClassSamples, Observation, PoolSupply, Snapshot
from sluice.planning import Outcome

deciding = importlib.import_module("sluice.deciding.decide")

NOW = 1_000_000.0
POOL = pool("a100")
DECODE_HEAVY = WorkloadClass(
    name="decode-heavy",
    prompt_token_price=0.1,
    output_token_price=0.2,
    prior_rate=2.0,
    prior_prompt_tokens=300.0,
    prior_output_tokens=1000.0,
    patience_seconds=10.0,
)
PREFILL_HEAVY = replace(DECODE_HEAVY, name="prefill-heavy", prior_prompt_tokens=3000.0, prior_output_tokens=400.0)
FLEET = Fleet(
    namespace="default",
    name="llama",
    pools=(POOL,),
    metrics=MetricsSettings(prometheus_url="http://prometheus"),
    data_plane=DataPlane(limit=LimitKind.IN_FLIGHT),
)
UNREACHABLE = Finding(
    condition=ConditionType.METRICS_AVAILABLE, reason=Reason.PROMETHEUS_UNREACHABLE, message="no answer"
)


def world(
    rates: dict[str, float] | None = None, *, now: float = NOW, replicas: int = 4, fleet: Fleet = FLEET
) -> Snapshot:
    """Four replicas of the paper's instance; rates of None: Prometheus is down."""
    observed = {
        name: ClassSamples(samples={Signal.OFFERED_RATE: Sample(value=rate, at_seconds=now, source=Source.ENVOY)})
        for name, rate in (rates or {}).items()
    }
    gap = Gap(signal=Signal.OFFERED_RATE, tried=((Source.ENVOY, GapReason.UNREACHABLE),))
    if rates is None:
        observed = {name: ClassSamples(gaps={Signal.OFFERED_RATE: gap}) for name in ("decode-heavy", "prefill-heavy")}
    return Snapshot(
        now=now,
        fleet=fleet,
        classes=(DECODE_HEAVY, PREFILL_HEAVY),
        supplies=(PoolSupply(pool="a100", ready=replicas, source=Source.ENDPOINTS),),
        observation=Observation(classes=observed, problems=() if rates is not None else (UNREACHABLE,)),
    )


PAPER = {"decode-heavy": 2.0, "prefill-heavy": 2.0}


class Operator:
    """Several passes in a row, with the memories between them."""

    def __init__(self) -> None:
        self.estimates, self.decisions = EstimateMemory(), DecideMemory()

    def __call__(self, snapshot: Snapshot) -> Decision:
        demand, self.estimates = estimate(snapshot, self.estimates)
        decision, self.decisions = decide(snapshot, demand, self.decisions)
        return decision


def reasons(decision: Decision) -> set[Reason]:
    return {finding.reason for finding in decision.findings}


def test_the_paper_instance_is_planned_and_only_the_rationed_class_is_limited() -> None:
    decision = Operator()(world(PAPER))
    assert decision.plan is not None
    assert decision.targets is not None
    assert decision.plan.value_per_second == pytest.approx(4 * 297.716190347, rel=1e-6)
    limits = {target.name: target.in_flight_limit for target in decision.targets.classes}
    assert limits["decode-heavy"] is not None
    assert limits["prefill-heavy"] is None
    assert Reason.OPTIMAL in reasons(decision)


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        pytest.param(world(PAPER, replicas=0), Reason.NO_REPLICAS, id="zero replicas keep the last plan"),
        pytest.param(replace(world(PAPER), classes=()), Reason.EMPTY_FLEET, id="an empty fleet is told"),
        pytest.param(
            replace(
                world(PAPER),
                findings=(
                    Finding(
                        condition=ConditionType.RESOLVED_REFS,
                        reason=Reason.PROFILE_NOT_FOUND,
                        message="pool a100 names profile nowhere",
                        blocking=True,
                    ),
                ),
            ),
            Reason.PROFILE_NOT_FOUND,
            id="an unknown profile blocks and is named",
        ),
        pytest.param(world(None), Reason.PROMETHEUS_UNREACHABLE, id="Prometheus down holds the plan"),
    ],
)
def test_refusals_keep_the_last_plan_and_touch_nothing(snapshot: Snapshot, expected: Reason) -> None:
    operator = Operator()
    good = operator(world(PAPER)).plan
    decision = operator(snapshot)
    assert decision.plan == good
    assert decision.targets is None
    assert expected in reasons(decision)


def test_a_plan_whose_proof_fails_is_never_ordered_and_the_condition_names_the_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operator = Operator()
    good = operator(world(PAPER)).plan
    failed = Outcome(
        verdict=Verdict.UNDECIDED,
        reason=Reason.CERTIFICATE_FAILED,
        message="row (4) slots[a100,chunk 0, batch 16] is violated by 0.1 of its largest term",
    )
    monkeypatch.setattr(deciding, "solve", lambda *_, **__: failed)
    decision = operator(world({name: 3 * rate for name, rate in PAPER.items()}))
    assert decision.plan == good
    assert decision.targets is None
    (finding,) = (finding for finding in decision.findings if finding.reason is Reason.CERTIFICATE_FAILED)
    assert finding.condition is ConditionType.SOLVED
    assert finding.blocking
    assert "(4) slots[a100" in finding.message


def blind(choice: SafePlan) -> tuple[Decision, Decision]:
    """The last good decision, and the one after being blind for longer than the fleet allows."""
    fleet = replace(FLEET, control=ControlSettings(safe_plan=choice))
    operator = Operator()
    good = operator(world(PAPER, fleet=fleet))
    operator(world(None, now=NOW + 10, fleet=fleet))
    return good, operator(world(None, now=NOW + 11 + fleet.control.blind_after_seconds, fleet=fleet))


def test_blind_for_too_long_opens_the_limits_and_keeps_the_weights() -> None:
    good, decision = blind(SafePlan.OPEN)
    assert good.targets is not None
    assert decision.targets is not None
    assert Reason.BLIND in reasons(decision)
    assert [target.in_flight_limit for target in decision.targets.classes] == [None, None]
    assert [t.weights for t in decision.targets.classes] == [t.weights for t in good.targets.classes]


def test_blind_with_the_last_plan_as_safe_plan_touches_nothing() -> None:
    good, decision = blind(SafePlan.LAST_PLAN)
    assert (decision.plan, decision.targets) == (good.plan, None)


def test_blind_with_priors_as_safe_plan_plans_for_them() -> None:
    _, decision = blind(SafePlan.PRIORS)
    assert decision.plan is not None
    assert decision.plan.classes[0].arrival_rate == DECODE_HEAVY.prior_rate
    assert decision.targets is not None
    assert decision.targets.classes[0].in_flight_limit is not None


def test_limits_stay_open_while_a_rate_is_only_declared() -> None:
    decision = Operator()(world({"decode-heavy": 2.0}))
    assert decision.targets is not None
    assert [target.in_flight_limit for target in decision.targets.classes] == [None, None]
    assert any("prefill-heavy" in f.message for f in decision.findings if f.reason is Reason.PARTLY_PRIOR)


def test_limits_that_come_and_go_with_the_measurements_do_not_flap() -> None:
    """Alternating measured and unmeasured passes: lifted at once, set again only after a dwell."""
    operator = Operator()
    limited = []
    for turn in range(12):
        rates = PAPER if turn % 2 == 0 else {"decode-heavy": 2.0}
        operator.estimates = EstimateMemory()  # as after a restart: nothing is held
        targets = operator(world(rates, now=NOW + 10 * turn)).targets
        assert targets is not None
        limited.append(targets.classes[0].in_flight_limit is not None)
    assert sum(before != after for before, after in itertools.pairwise(limited)) <= 3


@pytest.mark.parametrize(("waited", "drained"), [(0.05, False), (20.0, True)])
def test_a_rate_limit_drains_the_backlog_that_the_pass_measures(waited: float, drained: bool) -> None:
    fleet = replace(FLEET, data_plane=DataPlane(limit=LimitKind.RATE))
    operator = Operator()
    for step in range(12):
        now = NOW + 10.0 * step
        view = world(PAPER, now=now, fleet=fleet)
        ttft = Sample(value=waited, at_seconds=now, source=Source.VLLM)
        classes = {
            name: replace(one, samples={**one.samples, Signal.TTFT: ttft})
            for name, one in view.observation.classes.items()
        }
        decision = operator(replace(view, observation=replace(view.observation, classes=classes)))
    assert decision.plan is not None
    assert decision.targets is not None
    planned, limit = decision.plan.classes[0].admitted_rate, decision.targets.classes[0].rate_limit
    assert limit is not None
    assert (limit < 0.5 * planned) is drained


def test_traffic_of_no_class_is_told_and_given_room() -> None:
    strangers = Sample(value=1.0, at_seconds=NOW, source=Source.ENVOY)
    crowded = world(PAPER)
    crowded = replace(crowded, observation=replace(crowded.observation, unmatched_rate=strangers))
    alone, shared = Operator()(world(PAPER)), Operator()(crowded)
    assert Reason.UNMATCHED_TRAFFIC in reasons(shared)
    assert Reason.UNMATCHED_TRAFFIC not in reasons(alone)
    assert alone.plan is not None
    assert shared.plan is not None
    assert shared.plan.value_per_second < alone.plan.value_per_second


def test_a_fleet_without_prometheus_is_limited_by_its_declared_demand() -> None:
    fleet = replace(FLEET, metrics=MetricsSettings())
    decision = Operator()(world({}, fleet=fleet))
    assert decision.targets is not None
    assert any(target.in_flight_limit is not None for target in decision.targets.classes)


def test_that_there_is_no_prometheus_is_told_once_and_by_the_observer() -> None:
    told = Finding(condition=ConditionType.METRICS_AVAILABLE, reason=Reason.NOT_CONFIGURED, message="no Prometheus")
    snapshot = world({}, fleet=replace(FLEET, metrics=MetricsSettings()))
    decision = Operator()(replace(snapshot, observation=replace(snapshot.observation, problems=(told,))))
    assert [f for f in decision.findings if f.condition is ConditionType.METRICS_AVAILABLE] == [told]


def test_noise_within_the_dead_band_adopts_nothing() -> None:
    operator = Operator()
    first = operator(world(PAPER))
    second = operator(world({"decode-heavy": 2.03, "prefill-heavy": 1.98}, now=NOW + 10))
    assert second.plan is first.plan
    assert not second.adopted
    assert second.targets == first.targets


def test_a_change_beyond_the_dead_band_is_adopted() -> None:
    operator = Operator()
    first = operator(world(PAPER))
    second = operator(world({"decode-heavy": 4.0, "prefill-heavy": 2.0}, now=NOW + 10))
    assert second.adopted
    assert second.plan is not None
    assert first.plan is not None
    assert second.plan.plan_id != first.plan.plan_id


def test_slow_drift_is_adopted_once_it_adds_up() -> None:
    """The comparison is with the plan in force, so many small steps cannot hide a large one."""
    operator = Operator()
    operator(world(PAPER))
    adopted = [
        operator(world({"decode-heavy": 2.0 + 0.02 * step, "prefill-heavy": 2.0}, now=NOW + 10 * step)).adopted
        for step in range(1, 11)
    ]
    assert any(adopted)


def test_another_number_of_replicas_is_always_another_plan() -> None:
    fleet = replace(FLEET, control=ControlSettings(dead_band=0.99))
    operator = Operator()
    operator(world(PAPER, fleet=fleet))
    assert operator(world(PAPER, now=NOW + 10, replicas=5, fleet=fleet)).adopted
