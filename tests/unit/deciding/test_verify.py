"""Effective: what the data plane does against what it was told."""

import math
from dataclasses import replace

import pytest
from tests.values import pool

from sluice.deciding.verify import VerifyMemory, verify
from sluice.model.decision import ClassTarget, Targets
from sluice.model.fleet import ControlSettings, DataPlane, DataPlaneKind, Fleet
from sluice.model.reasons import Reason
from sluice.model.signal import Sample, Signal, Source
from sluice.model.snapshot import ClassSamples, EnforcedLimit, Observation, Snapshot

NOW = 1_000.0
POOL = pool("a100")
FLEET = Fleet(namespace="d", name="f", pools=(POOL,), data_plane=DataPlane(kind=DataPlaneKind.ENVOY_FILES))


def target(rate: float | None = None, in_flight: int | None = None, fence: int | None = None) -> Targets:
    entry = ClassTarget(name="chat", rate_limit=rate, in_flight_limit=in_flight, fence=fence, weights=(("a100", 1000),))
    return Targets(plan_id="p", classes=(entry,))


def view(
    enforced: EnforcedLimit | None = None, samples: dict[Signal, float] | None = None, proxies: int = 1
) -> Snapshot:
    measured = {
        signal: Sample(value=value, at_seconds=NOW, source=Source.ENVOY) for signal, value in (samples or {}).items()
    }
    observation = Observation(
        classes={"chat": ClassSamples(samples=measured)},
        enforced={} if enforced is None else {"chat": enforced},
        proxies_ready=proxies,
    )
    return Snapshot(now=NOW, fleet=FLEET, classes=(), supplies=(), observation=observation)


def reason(snapshot: Snapshot, targets: Targets) -> Reason:
    findings, _ = verify(snapshot, targets, VerifyMemory(targets=targets, since=NOW - 600))
    return findings[0].reason


@pytest.mark.parametrize(
    ("snapshot", "targets", "expected"),
    [
        pytest.param(view(EnforcedLimit(in_flight=7)), target(in_flight=7), Reason.OBEYED, id="the breaker agrees"),
        pytest.param(
            view(EnforcedLimit(in_flight=12, origin="admin")),
            target(in_flight=7),
            Reason.LIMIT_NOT_ENFORCED,
            id="an override at the proxy is told",
        ),
        pytest.param(
            view(EnforcedLimit(in_flight=8), proxies=3),
            target(in_flight=7),
            Reason.OBEYED,
            id="three proxies round their shares up",
        ),
        pytest.param(
            view(EnforcedLimit(in_flight=1024)),
            target(),
            Reason.LIMIT_NOT_ENFORCED,
            id="an implicit breaker of 1024 is not an open limit",
        ),
        pytest.param(view(EnforcedLimit(in_flight=2**31)), target(), Reason.OBEYED, id="an open class is open"),
        pytest.param(
            view(EnforcedLimit(in_flight=14, rate=3.0)),
            target(rate=3.1, fence=14),
            Reason.OBEYED,
            id="a rounded rate is the same rate",
        ),
        pytest.param(
            view(EnforcedLimit(in_flight=14, rate=6.0)),
            target(rate=3.1, fence=14),
            Reason.LIMIT_NOT_ENFORCED,
            id="another rate is told",
        ),
        pytest.param(
            view(EnforcedLimit(in_flight=14, rate=math.inf, rate_origin="admin")),
            target(rate=3.1, fence=14),
            Reason.LIMIT_NOT_ENFORCED,
            id="a lifted rate limit is told",
        ),
        pytest.param(
            view(EnforcedLimit(in_flight=2**31, rate=math.inf)), target(), Reason.OBEYED, id="no limit, none in force"
        ),
        pytest.param(
            view(samples={Signal.ADMITTED_RATE: 9.0}),
            target(rate=3.0),
            Reason.LIMIT_NOT_ENFORCED,
            id="traffic above the rate limit gives an inert limit away",
        ),
        pytest.param(
            view(samples={Signal.IN_FLIGHT: 30.0}),
            target(in_flight=10),
            Reason.LIMIT_NOT_ENFORCED,
            id="requests in flight above the limit give it away",
        ),
        pytest.param(
            view(samples={Signal.ADMITTED_RATE: 2.9, Signal.IN_FLIGHT: 8.0}),
            target(rate=3.0, fence=20),
            Reason.OBEYED,
            id="traffic inside the limits",
        ),
        pytest.param(view(), target(rate=3.0), Reason.NOT_VERIFIED, id="no counters prove nothing"),
        pytest.param(view(), target(), Reason.OBEYED, id="nothing to obey"),
    ],
)
def test_judgement(snapshot: Snapshot, targets: Targets, expected: Reason) -> None:
    assert reason(snapshot, targets) is expected


def test_the_message_names_class_both_numbers_and_who_set_it() -> None:
    findings, _ = verify(
        view(EnforcedLimit(in_flight=12, origin="admin")),
        target(in_flight=7),
        VerifyMemory(targets=target(in_flight=7), since=0.0),
    )
    assert all(part in findings[0].message for part in ("chat", "7", "12", "admin"))


def test_a_change_is_given_time_to_arrive() -> None:
    findings, memory = verify(view(EnforcedLimit(in_flight=12)), target(in_flight=7), VerifyMemory())
    assert findings == ()
    later = replace(view(EnforcedLimit(in_flight=12)), now=NOW + 5)
    findings, _ = verify(later, target(in_flight=7), memory)
    assert findings[0].reason is Reason.LIMIT_NOT_ENFORCED


def test_a_new_plan_id_with_the_same_limits_does_not_restart_the_clock() -> None:
    _, memory = verify(view(), target(in_flight=7), VerifyMemory())
    renamed = replace(target(in_flight=7), plan_id="q")
    _, after = verify(replace(view(), now=NOW + 5), renamed, memory)
    assert after.since == NOW


def test_before_the_first_write_nothing_is_claimed() -> None:
    findings, _ = verify(view(), None, VerifyMemory())
    assert findings[0].reason is Reason.NOT_VERIFIED


def test_limits_that_move_often_are_judged_all_the_same() -> None:
    control = ControlSettings(dwell_seconds=2.0, fence_dwell_seconds=4.0)
    fleet = replace(FLEET, data_plane=DataPlane(kind=DataPlaneKind.ENVOY_GATEWAY), control=control)
    targets, snapshot = target(in_flight=7), replace(view(EnforcedLimit(in_flight=7)), fleet=fleet)
    early, _ = verify(snapshot, targets, VerifyMemory(targets=targets, since=NOW - 3))
    late, _ = verify(snapshot, targets, VerifyMemory(targets=targets, since=NOW - 5))
    assert (early, [finding.reason for finding in late]) == ((), [Reason.OBEYED])
