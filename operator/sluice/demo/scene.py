"""The demo's setting: a fleet, two services that share it, and a load in four acts.

Why it is realistic:

* **Replicas.** Four replicas of Llama-3.1-8B on an A100 with the engine settings people run:
  64 sequences, 576 batched tokens, so 512 prompt tokens beside a full batch. The law is the
  fit to iteration times composed from NVIDIA's measured operator tables (aiconfigurator-core
  0.12.0, Apache-2.0): 11.47 ms + 0.117 ms per sequence + 55.5 us per prompt token above 32.
* **Traffic.** Arrivals and lengths of two real services (``data/README.md``): a chat service,
  nearly Poisson, and a code-completion service with long prompts, tiny answers and bursts.
  Both serve the same model, each under a served model name of its own. Bodies have the size
  of real prompts: prose takes more bytes per token than code does, and no two texts the same
  (assumed: 4.4 and 3.4 bytes, 15 % either way), for the gate knows a prompt by its bytes.
* **Money.** Chat is sold to customers at 0.20 / 0.80 dollars per million prompt / output tokens,
  code completion is charged to a department at half of that. Chat is the protected class.
* **Promises and patience.** First tokens within 2 s for chat and 1 s for completion. A reader
  waits some 20 s for a chat answer before leaving; who types code goes on typing after 8 s.
* **Load.** Rates are chosen by the planner itself: ``1.0`` is the load that the plan just serves
  in full. Four acts: calm at 0.7, where control must do no harm; a ramp to 1.2; a burst, in which
  code doubles to 2.4 while chat stays at 1.2 (it is the code service that comes in bursts: its
  99th percentile over ten seconds is six times its mean); and back to 0.7.

Three controls meet the same requests: none, the limits that the plan orders of the proxy, and
the gate that admits every single prefill in the plan's order and names the replica for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sluice.demo.arrivals import Arrival, Stretch, excerpt, replay
from sluice.demo.replica import ReplicasSettings
from sluice.model.fleet import LimitKind, Tier

NAMESPACE = "default"
FLEET = "demo"
POOL = "a100"
PROFILE = "llama-31-8b-a100"
MODEL_HEADER = "x-model"


class Control(StrEnum):
    """What stands between the load and the replicas."""

    NONE = "none"
    """The proxy's own balancing alone."""
    LIMITS = "limits"
    """The operator's limits at the proxy."""
    GATE = "gate"
    """The gate, fed by the operator's plans."""

    @property
    def words(self) -> str:
        """For people."""
        return "without control" if self is Control.NONE else f"with {'the gate' if self is Control.GATE else 'limits'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One class of the demo."""

    name: str
    excerpt: str
    """File of real requests below ``data/``."""
    share: float
    """Requests per second relative to the other services."""
    prompt_price: str
    """Dollars per million prompt tokens."""
    output_price: str
    """Dollars per million output tokens."""
    promise_seconds: float
    """TTFT target."""
    patience_seconds: float
    """Mean of an exponential patience."""
    tier: Tier
    bytes_per_token: float
    """Mean size of its prompts on the wire."""

    @property
    def model(self) -> str:
        """The class's own served model name."""
        return f"demo-{self.name}"

    def value(self, prompt_tokens: float, output_tokens: float) -> float:
        """Dollars that a complete answer earns."""
        return (float(self.prompt_price) * prompt_tokens + float(self.output_price) * output_tokens) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Some seconds of an act: from one multiple of the load that the plan just serves to another."""

    seconds: float
    load: float
    load_at_end: float
    surge: tuple[tuple[str, float], ...] = ()
    """Services that come so many times as often as the load says."""

    def rates(self, service: Service, unit_rate: float) -> tuple[float, float]:
        """Requests per second of ``service`` at the beginning and at the end."""
        rate = dict(self.surge).get(service.name, 1.0) * unit_rate * service.share
        return self.load * rate, self.load_at_end * rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """A part of a run with a name of its own."""

    name: str
    title: str
    phases: tuple[Phase, ...]

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def peak(self) -> float:
        """The highest load of any service."""
        return max(
            max(phase.load, phase.load_at_end) * max([1.0, *(times for _, times in phase.surge)])
            for phase in self.phases
        )

    @property
    def load(self) -> str:
        """Its load in a word: ``0.7``, ``0.7-1.2``, or ``1.2, code 2.4``."""
        first, last = self.phases[0].load, self.phases[-1].load_at_end
        word = f"{first:g}" if first == last else f"{first:g}-{last:g}"
        return ", ".join([word, *(f"{name} {times * last:g}" for name, times in self.phases[-1].surge)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """When an act is on, seconds since the start of a run."""

    act: Act
    start: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything that is chosen; the rest follows."""

    services: tuple[Service, ...]
    acts: tuple[Act, ...]
    replicas: int
    slots: int
    chunk_tokens: int
    kv_token_capacity: int
    solo_nanoseconds: int
    knee_tokens: int
    per_token_nanoseconds: int
    per_sequence_nanoseconds: int
    limit: LimitKind | None = None
    """``dataPlane.limit`` of the fleet; None: the product's default."""
    placement: bool = True
    """Whether the gate names the replica of every request."""

    @property
    def seconds(self) -> float:
        """Length of a run's arrivals."""
        return sum(act.seconds for act in self.acts)

    @property
    def timetable(self) -> tuple[Span, ...]:
        """The acts in order, with their times."""
        spans: list[Span] = []
        for act in self.acts:
            start = spans[-1].end if spans else 0.0
            spans.append(Span(act=act, start=start, end=start + act.seconds))
        return tuple(spans)

    def act_at(self, at_seconds: float) -> Act:
        """The act that is on; after the last one, the last."""
        return next((span.act for span in self.timetable if at_seconds < span.end), self.acts[-1])

    @property
    def calm(self) -> Act | None:
        """The first act that needs no control; None where none was chosen."""
        return next((act for act in self.acts if act.peak < 1.0), None)

    @property
    def protected(self) -> Service:
        """The service that must not suffer."""
        return next(service for service in self.services if service.tier is Tier.PROTECTED)

    def lasting(self, seconds: float) -> Scene:
        """The same acts in so many seconds altogether."""
        factor = seconds / self.seconds
        acts = (
            replace(act, phases=tuple(replace(phase, seconds=factor * phase.seconds) for phase in act.phases))
            for act in self.acts
        )
        return replace(self, acts=tuple(acts))

    def playing(self, names: Sequence[str]) -> Scene:
        """Only the acts of these names, in the scene's order."""
        return replace(self, acts=tuple(act for act in self.acts if act.name in names))

    @property
    def batched_token_budget(self) -> int:
        """Room for a chunk beside a full batch."""
        return self.chunk_tokens + self.slots

    @property
    def replicas_settings(self) -> ReplicasSettings:
        """What the replicas' process is told."""
        knee_nanoseconds = self.knee_tokens * self.per_token_nanoseconds
        return ReplicasSettings(
            replicas=self.replicas,
            models=tuple(service.model for service in self.services),
            solo_seconds=self.solo_nanoseconds / 1e9,
            mixed_base_seconds=(self.solo_nanoseconds - knee_nanoseconds) / 1e9,
            per_token_seconds=self.per_token_nanoseconds / 1e9,
            per_sequence_seconds=self.per_sequence_nanoseconds / 1e9,
            slots=self.slots,
            batched_token_budget=self.batched_token_budget,
            kv_token_capacity=self.kv_token_capacity,
        )

    def service(self, name: str) -> Service:
        """The service called ``name``."""
        return next(service for service in self.services if service.name == name)

    def mean_tokens(self, service: Service) -> tuple[float, float]:
        """Mean prompt and output tokens of the service's excerpt: what a team would declare as priors."""
        rows = excerpt(service.excerpt)
        return (
            sum(row.prompt_tokens for row in rows) / len(rows),
            sum(row.output_tokens for row in rows) / len(rows),
        )

    def arrivals(self, *, unit_rate: float, seed: int) -> tuple[Arrival, ...]:
        """All requests of one run in order; ``unit_rate`` times a service's share is its rate at load 1."""
        phases = [phase for act in self.acts for phase in act.phases]
        everything = [
            arrival
            for service in self.services
            for arrival in replay(
                service.name,
                excerpt(service.excerpt),
                [_stretch(phase, service, unit_rate) for phase in phases],
                patience_seconds=service.patience_seconds,
                bytes_per_token=service.bytes_per_token,
                seed=seed,
            )
        ]
        return tuple(sorted(everything, key=lambda arrival: (arrival.at_seconds, arrival.workload)))


def _stretch(phase: Phase, service: Service, unit_rate: float) -> Stretch:
    rate, rate_at_end = phase.rates(service, unit_rate)
    return Stretch(seconds=phase.seconds, rate=rate, rate_at_end=rate_at_end)


SCENE = Scene(
    services=(
        Service(
            name="chat",
            excerpt="azure2023_conversation",
            share=1.4,
            prompt_price="0.20",
            output_price="0.80",
            promise_seconds=2.0,
            patience_seconds=20.0,
            tier=Tier.PROTECTED,
            bytes_per_token=4.4,
        ),
        Service(
            name="code",
            excerpt="azure2023_code",
            share=1.0,
            prompt_price="0.10",
            output_price="0.40",
            promise_seconds=1.0,
            patience_seconds=8.0,
            tier=Tier.STANDARD,
            bytes_per_token=3.4,
        ),
    ),
    acts=(
        Act(name="calm", title="calm", phases=(Phase(seconds=16.0, load=0.7, load_at_end=0.7),)),
        Act(
            name="ramp",
            title="ramp to overload",
            phases=(Phase(seconds=6.0, load=0.7, load_at_end=1.2), Phase(seconds=12.0, load=1.2, load_at_end=1.2)),
        ),
        Act(
            name="burst",
            title="burst of code",
            phases=(Phase(seconds=12.0, load=1.2, load_at_end=1.2, surge=(("code", 2.0),)),),
        ),
        Act(name="back", title="back to calm", phases=(Phase(seconds=18.0, load=0.7, load_at_end=0.7),)),
    ),
    replicas=4,
    slots=64,
    chunk_tokens=512,
    kv_token_capacity=400_000,
    solo_nanoseconds=11_470_000,
    knee_tokens=32,
    per_token_nanoseconds=55_500,
    per_sequence_nanoseconds=117_000,
)
