"""The observer over a fake Prometheus: orders of sources, gaps, findings, and how few queries it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
from tests import values
from tests.values import ttft_promise

from sluice.model import naming
from sluice.model.fleet import (
    DataPlane,
    DataPlaneKind,
    Fleet,
    LimitKind,
    MetricsSettings,
    Mode,
    RouteRef,
    WorkloadClass,
)
from sluice.model.reasons import Reason
from sluice.model.signal import GapReason, Signal, Source
from sluice.model.snapshot import Observation
from sluice.observe.envoy_admin import AdminError, AdminReport
from sluice.observe.observer import Observer
from sluice.observe.prometheus import Failure, QueryError
from sluice.observe.promql import KEY_LABEL, NEWEST_SUFFIX, TERM_LABEL, Series
from sluice.observe.proxies import Proxies

NOW = 5000.0
METRICS = MetricsSettings(prometheus_url="http://prometheus.invalid")
FILES = DataPlane(kind=DataPlaneKind.ENVOY_FILES)
GATEWAY = DataPlane(kind=DataPlaneKind.ENVOY_GATEWAY)


def workload(name: str, *, promise: float | None = None, model: str | None = None) -> WorkloadClass:
    promised = () if promise is None else (ttft_promise(promise),)
    return values.workload(name, fairness_id=f"f-{name}", served_model_name=model, slis=promised)


def fleet(plane: DataPlane = FILES, *, mode: Mode = Mode.OBSERVE, metrics: MetricsSettings = METRICS) -> Fleet:
    return Fleet(namespace="ml", name="f", pools=(), mode=mode, data_plane=plane, metrics=metrics)


def term(key: str, name: str, value: float, age: float = 0.0) -> list[Series]:
    labels = {KEY_LABEL: key, TERM_LABEL: name}
    return [
        Series(labels=labels, value=value),
        Series(labels={**labels, TERM_LABEL: name + NEWEST_SUFFIX}, value=NOW - age),
    ]


class FakePrometheus:
    """Answers a query with the series of those metrics that it names."""

    def __init__(self, holds: Mapping[str, Sequence[Series]] | None = None) -> None:
        self.holds = dict(holds or {})
        self.asked: list[tuple[str, float]] = []
        self.fails: Callable[[str], QueryError | None] = lambda _: None

    async def query(self, promql: str, at_seconds: float) -> tuple[Series, ...]:
        self.asked.append((promql, at_seconds))
        if error := self.fails(promql):
            raise error
        return tuple(one for metric, series in self.holds.items() if f'"{metric}"' in promql for one in series)

    async def close(self) -> None:
        """Nothing is open."""


async def observe(
    prometheus: FakePrometheus | None,
    classes: Sequence[WorkloadClass],
    over: Fleet | None = None,
    around: Proxies | None = None,
) -> Observation:
    return await Observer(prometheus).observe(over or fleet(), classes, NOW, around)


ENVOY_TOTAL = "envoy_cluster_upstream_rq_total"
CHAT = naming.files_cluster("ml", "chat")


async def test_a_thousand_classes_take_as_few_queries_as_one_at_the_given_time() -> None:
    for count in (1, 1000):
        prometheus = FakePrometheus()
        classes = [workload(f"c{index}", promise=1.0, model=f"m{index}") for index in range(count)]
        await observe(prometheus, classes)
        assert len(prometheus.asked) == 8
        assert {at for _, at in prometheus.asked} == {NOW}


async def test_the_first_source_with_a_sample_wins_and_is_named() -> None:
    prometheus = FakePrometheus(
        {
            "llm_d_epp_request_total": term("f-chat", "requests", 3.0),
            ENVOY_TOTAL: term(CHAT, "total", 4.0, age=7.0),
        }
    )
    seen = (await observe(prometheus, [workload("chat")])).classes["chat"]
    sample = seen.samples[Signal.OFFERED_RATE]
    assert (sample.value, sample.source, sample.age_seconds(NOW)) == (4.0, Source.ENVOY, 7.0)


@pytest.mark.parametrize(
    ("mode", "limit", "sources"),
    [
        pytest.param(Mode.OBSERVE, LimitKind.RATE, 4, id="while we only look, any source may tell the offered rate"),
        pytest.param(Mode.ENFORCE, LimitKind.NONE, 4, id="without limits of ours too"),
        pytest.param(Mode.ENFORCE, LimitKind.RATE, 1, id="under our limits only what counts before them"),
    ],
)
async def test_demand_never_follows_our_own_limit(mode: Mode, limit: LimitKind, sources: int) -> None:
    over = fleet(replace(FILES, limit=limit), mode=mode)
    prometheus = FakePrometheus({"llm_d_epp_request_total": term("f-chat", "requests", 3.0)})
    seen = (await observe(prometheus, [workload("chat")], over)).classes["chat"]
    if sources == 1:
        assert seen.gaps[Signal.OFFERED_RATE].tried == ((Source.ENVOY, GapReason.NO_SERIES),)
    else:
        assert seen.samples[Signal.OFFERED_RATE].source is Source.ENDPOINT_PICKER


async def test_the_user_orders_sources_per_signal() -> None:
    metrics = replace(METRICS, sources=(("InFlight", ("vLLM", "Envoy")), ("ReadyReplicas", ("Pods",))))
    prometheus = FakePrometheus(
        {
            "envoy_cluster_upstream_rq_active": term(CHAT, "active", 9.0),
            "vllm:num_requests_running": term("m", "running", 2.0),
            "vllm:num_requests_waiting": term("m", "waiting", 1.0),
        }
    )
    seen = await observe(prometheus, [workload("chat", model="m")], fleet(metrics=metrics))
    sample = seen.classes["chat"].samples[Signal.IN_FLIGHT]
    assert (sample.value, sample.source) == (3.0, Source.VLLM)
    assert seen.problems == ()


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(("InFlight", ("Graphite",)), id="a source that does not exist"),
        pytest.param(("Happiness", ("Envoy",)), id="a signal that does not exist"),
    ],
)
async def test_a_misspelt_source_is_said(entry: tuple[str, tuple[str, ...]]) -> None:
    seen = await observe(FakePrometheus(), [workload("chat")], fleet(metrics=replace(METRICS, sources=(entry,))))
    assert [finding.reason for finding in seen.problems] == [Reason.INVALID]


async def test_a_model_name_that_two_classes_share_tells_neither() -> None:
    prometheus = FakePrometheus({"vllm:time_to_first_token_seconds_sum": term("m", "ttft_sum", 1.0)})
    seen = await observe(prometheus, [workload("chat", model="m"), workload("code", model="m")])
    for name in ("chat", "code"):
        assert dict(seen.classes[name].gaps[Signal.TTFT].tried)[Source.VLLM] is GapReason.NOT_CONFIGURED
    assert not any("vllm:" in promql for promql, _ in prometheus.asked)


async def test_a_class_without_a_fairness_id_is_known_by_its_name() -> None:
    prometheus = FakePrometheus({"llm_d_epp_request_total": term("chat", "requests", 3.0)})
    seen = await observe(prometheus, [replace(workload("chat"), fairness_id="")])
    assert seen.classes["chat"].samples[Signal.ADMITTED_RATE].value == 3.0


async def test_a_cluster_whose_name_envoy_cuts_at_a_dot_is_not_asked_for() -> None:
    users = replace(workload("chat"), route=RouteRef(name="route.v2", rule_name="chat"))
    seen = await observe(FakePrometheus(), [users], fleet(GATEWAY), Proxies(rule_index={"chat": 0}))
    assert (Source.ENVOY, GapReason.NOT_CONFIGURED) in seen.classes["chat"].gaps[Signal.OFFERED_RATE].tried


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        pytest.param(Failure.UNREACHABLE, Reason.PROMETHEUS_UNREACHABLE, id="down"),
        pytest.param(Failure.TIMED_OUT, Reason.PROMETHEUS_UNREACHABLE, id="slow"),
        pytest.param(Failure.REFUSED, Reason.PROMETHEUS_REFUSED, id="credentials refused"),
        pytest.param(Failure.REJECTED, Reason.PROMETHEUS_UNREACHABLE, id="something else answers"),
    ],
)
async def test_without_prometheus_every_signal_is_a_gap_and_one_finding_says_why(
    failure: Failure, reason: Reason
) -> None:
    prometheus = FakePrometheus()
    prometheus.fails = lambda _: QueryError(failure, "why")
    seen = await observe(prometheus, [workload("chat", promise=1.0, model="m")])
    assert [finding.reason for finding in seen.problems] == [reason]
    chat = seen.classes["chat"]
    assert not chat.samples
    assert set(chat.gaps) == set(Signal) - {Signal.READY_REPLICAS}
    assert {why for gap in chat.gaps.values() for _, why in gap.tried} == {GapReason.UNREACHABLE}
    assert seen.unmatched_rate is None


async def test_a_source_that_fails_alone_leaves_the_others() -> None:
    prometheus = FakePrometheus({ENVOY_TOTAL: term(CHAT, "total", 4.0)})
    prometheus.fails = lambda promql: QueryError(Failure.TIMED_OUT, "slow") if "vllm:" in promql else None
    seen = await observe(prometheus, [workload("chat", model="m")])
    assert seen.classes["chat"].samples[Signal.ADMITTED_RATE].value == 4.0
    assert dict(seen.classes["chat"].gaps[Signal.TTFT].tried) == {
        Source.ENDPOINT_PICKER: GapReason.NO_SERIES,
        Source.VLLM: GapReason.UNREACHABLE,
        Source.SGLANG: GapReason.NO_SERIES,
    }


async def test_a_fleet_without_prometheus_is_told_so_and_asks_nobody() -> None:
    seen = await observe(None, [workload("chat")])
    assert [finding.reason for finding in seen.problems] == [Reason.NOT_CONFIGURED]
    assert {why for gap in seen.classes["chat"].gaps.values() for _, why in gap.tried} == {GapReason.NOT_CONFIGURED}


async def test_every_signal_is_either_a_sample_or_a_gap() -> None:
    prometheus = FakePrometheus({ENVOY_TOTAL: term(CHAT, "total", 0.0)})
    seen = (await observe(prometheus, [workload("chat")])).classes["chat"]
    assert set(seen.samples) | set(seen.gaps) == set(Signal) - {Signal.READY_REPLICAS}
    assert not set(seen.samples) & set(seen.gaps)
    assert seen.samples[Signal.OFFERED_RATE].value == 0.0


async def test_an_existing_rule_is_told_by_its_place_in_the_route() -> None:
    mine = replace(workload("chat"), route=RouteRef(name="shop", rule_name="chat"))
    holds = {ENVOY_TOTAL: term(naming.gateway_cluster("ml", "shop", 3), "total", 2.0)}
    found = await observe(FakePrometheus(holds), [mine], fleet(GATEWAY), Proxies(rule_index={"chat": 3}))
    assert found.classes["chat"].samples[Signal.OFFERED_RATE].value == 2.0
    unknown = await observe(FakePrometheus(holds), [mine], fleet(GATEWAY))
    assert (Source.ENVOY, GapReason.NOT_CONFIGURED) in unknown.classes["chat"].gaps[Signal.OFFERED_RATE].tried


async def test_refusals_that_envoy_gateway_counts_together_reach_the_limited_class() -> None:
    chat, code = (naming.gateway_cluster("ml", name, 0) for name in ("chat", "code"))
    shared = Series(labels={KEY_LABEL: naming.GATEWAY_RATE_LIMIT_STAT_PREFIX, TERM_LABEL: "limited"}, value=6.0)
    holds = {ENVOY_TOTAL: [*term(chat, "total", 2.0), *term(code, "total", 5.0), shared]}
    classes = [workload("chat"), workload("code")]
    seen = await observe(FakePrometheus(holds), classes, fleet(GATEWAY), Proxies(rate_limits={"chat": 2.0}))
    assert seen.classes["chat"].samples[Signal.OFFERED_RATE].value == 8.0
    assert seen.classes["code"].samples[Signal.OFFERED_RATE].value == 5.0


async def test_unmatched_traffic_is_what_the_listener_forwards_beyond_its_classes() -> None:
    listener = term(naming.FILES_LISTENER_STAT_PREFIX, "routed", 10.0) + term(
        naming.FILES_LISTENER_STAT_PREFIX, "no_route", 1.0
    )
    holds = {ENVOY_TOTAL: term(CHAT, "total", 6.0), "envoy_http_rq_total": listener}
    seen = await observe(FakePrometheus(holds), [workload("chat")])
    assert seen.unmatched_rate is not None
    assert seen.unmatched_rate.value == pytest.approx(3.0)
    assert seen.unrouted_rate is not None
    assert seen.unrouted_rate.value == pytest.approx(1.0)


async def test_a_class_that_cannot_be_counted_yet_is_not_taken_for_unmatched_traffic() -> None:
    listener = term(naming.FILES_LISTENER_STAT_PREFIX, "routed", 10.0)
    seen = await observe(FakePrometheus({"envoy_http_rq_total": listener}), [workload("chat")])
    assert seen.unmatched_rate is None


async def test_foreign_routes_to_our_pools_are_unmatched_traffic() -> None:
    holds = {
        ENVOY_TOTAL: [*term("httproute/ml/other/rule/0", "total", 3.0), *term("httproute/ml/x/rule/0", "total", 1)]
    }
    clusters = ("httproute/ml/other/rule/0", "httproute/ml/x/rule/0")
    seen = await observe(FakePrometheus(holds), [], fleet(GATEWAY), Proxies(foreign_clusters=clusters))
    assert seen.unmatched_rate is not None
    assert seen.unmatched_rate.value == 4.0


class FakeAdmin:
    """A proxy that says ``word``, or does not answer."""

    def __init__(self, word: AdminReport | None) -> None:
        self._word = word

    async def read(self) -> AdminReport:
        if self._word is None:
            raise AdminError("does not answer")
        return self._word


async def test_what_the_proxy_enforces_is_read_back_for_the_classes_it_knows() -> None:
    word = AdminReport(thresholds={CHAT: 7}, layers={CHAT: "admin"})
    observer = Observer(FakePrometheus(), FakeAdmin(word))
    seen = await observer.observe(fleet(), [workload("chat"), workload("code")], NOW)
    assert set(seen.enforced) == {"chat"}
    assert (seen.enforced["chat"].in_flight, seen.enforced["chat"].origin) == (7, "admin")


async def test_a_silent_proxy_is_a_finding_and_no_limit_is_guessed() -> None:
    seen = await Observer(FakePrometheus(), FakeAdmin(None)).observe(fleet(), [workload("chat")], NOW)
    assert seen.enforced == {}
    assert [finding.reason for finding in seen.problems] == [Reason.NOT_VERIFIED]


async def test_a_share_within_the_promise_is_dated_like_its_histogram() -> None:
    def bucket(bound: str, rate: float) -> Series:
        return Series(labels={KEY_LABEL: "m", "le": bound}, value=rate)

    holds = {
        "vllm:time_to_first_token_seconds_count": term("m", "ttft_count", 4.0, age=5.0),
        "vllm:time_to_first_token_seconds_bucket": [bucket("1.0", 1.0), bucket("3.0", 3.0), bucket("+Inf", 4.0)],
    }
    for age, expected in ((60.0, 0.5), (4.0, GapReason.STALE)):
        over = fleet(metrics=replace(METRICS, maximum_age_seconds=age))
        seen = (await observe(FakePrometheus(holds), [workload("chat", promise=2.0, model="m")], over)).classes["chat"]
        if isinstance(expected, float):
            sample = seen.samples[Signal.TTFT_WITHIN]
            assert (sample.value, sample.age_seconds(NOW)) == (expected, 5.0)
        else:
            assert dict(seen.gaps[Signal.TTFT_WITHIN].tried)[Source.VLLM] is expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
async def test_no_number_never_becomes_a_sample(value: float) -> None:
    seen = (await observe(FakePrometheus({ENVOY_TOTAL: term(CHAT, "total", value)}), [workload("chat")])).classes[
        "chat"
    ]
    assert (Source.ENVOY, GapReason.NOT_A_NUMBER) in seen.gaps[Signal.OFFERED_RATE].tried


@pytest.mark.parametrize(
    ("ages", "reasons"),
    [
        pytest.param((90.0, 70.0), {Reason.METRICS_STALE}, id="all classes' points are too old"),
        pytest.param((90.0, 1.0), set(), id="one class is told"),
        pytest.param((90.0, None), set(), id="another class never was"),
    ],
)
async def test_scraping_that_has_stopped_is_told(ages: tuple[float | None, ...], reasons: set[Reason]) -> None:
    names = ("chat", "code")
    series = [
        one
        for name, age in zip(names, ages, strict=True)
        if age is not None
        for one in term(naming.files_cluster("ml", name), "total", 3.0, age)
    ]
    found = await observe(FakePrometheus({ENVOY_TOTAL: series}), [workload(name) for name in names])
    assert {problem.reason for problem in found.problems} == reasons
    gap = found.classes["chat"].gaps[Signal.OFFERED_RATE]
    assert gap.detail == "the newest point is 90 s old, at most 60 s are allowed"
