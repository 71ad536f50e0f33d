"""The demo's setting: a fleet, two services that share it, and a busy hour in seventy seconds.

Why it is realistic:

* **Replicas.** Four replicas of Llama-3.1-8B on an A100 with the engine settings people run:
  64 sequences, 576 batched tokens, so 512 prompt tokens beside a full batch. The law is the
  fit to iteration times composed from NVIDIA's measured operator tables (aiconfigurator-core
  0.12.0, Apache-2.0): 11.47 ms + 0.117 ms per sequence + 55.5 us per prompt token above 32.
* **Traffic.** Arrivals and lengths of two real services (``data/README.md``): a chat service,
  nearly Poisson, and a code-completion service with long prompts, tiny answers and bursts.
  Both serve the same model, each under a served model name of its own.
* **Money.** Chat is sold to customers at 0.20 / 0.80 dollars per million prompt / output tokens,
  code completion is charged to a department at half of that.
* **Promises and patience.** First tokens within 2 s for chat and 1 s for completion. A reader
  waits some 20 s for a chat answer before leaving; who types code goes on typing after 8 s.
* **Load.** Rates are chosen by the planner itself: ``1.0`` is the load that the plan just serves
  in full. A run goes from 0.8 to a stretch at 1.5 and back to 0.6, the busy hour that no
  autoscaler answers in time.

Without a limit, both classes wait in the engines' queues until neither keeps its promise. The
plan says which class to ration, and how far.

The setting was chosen with an offline rehearsal (the same engine, planner and policy, with
samples 1.5 s late) and not for one seed: with a window of 12 s the gain in good value was 46 to
135 % over three seeds and both kinds of limit (the window was chosen on those very seeds). Raw
value hardly moves: an overloaded fleet is busy either way. A
shorter window forgets a burst in the lull after it and gains less.
"""

from __future__ import annotations

from dataclasses import dataclass

from sluice.demo.arrivals import Arrival, Stretch, excerpt, replay
from sluice.demo.replica import ReplicasSettings
from sluice.model.fleet import LimitKind

NAMESPACE = "default"
FLEET = "demo"
POOL = "a100"
PROFILE = "llama-31-8b-a100"
MODEL_HEADER = "x-model"


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

    @property
    def model(self) -> str:
        """The class's own served model name."""
        return f"demo-{self.name}"

    def value(self, prompt_tokens: float, output_tokens: float) -> float:
        """Dollars that a complete answer earns."""
        return (float(self.prompt_price) * prompt_tokens + float(self.output_price) * output_tokens) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A share of the run at a multiple of the load that the plan just serves."""

    share: float
    """Of the run's duration."""
    load: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything that is chosen; the rest follows."""

    services: tuple[Service, ...]
    phases: tuple[Phase, ...]
    replicas: int
    slots: int
    chunk_tokens: int
    kv_token_capacity: int
    solo_nanoseconds: int
    knee_tokens: int
    per_token_nanoseconds: int
    per_sequence_nanoseconds: int
    limit: LimitKind = LimitKind.RATE
    """``dataPlane.limit`` of the fleet: the product's default."""

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

    def arrivals(self, *, seconds: float, unit_rate: float, seed: int) -> tuple[Arrival, ...]:
        """All requests of one run in order; ``unit_rate`` times a service's share is its rate at load 1."""
        everything = [
            arrival
            for service in self.services
            for arrival in replay(
                service.name,
                excerpt(service.excerpt),
                [
                    Stretch(seconds=phase.share * seconds, rate=phase.load * unit_rate * service.share)
                    for phase in self.phases
                ],
                service.patience_seconds,
                seed,
            )
        ]
        return tuple(sorted(everything, key=lambda arrival: (arrival.at_seconds, arrival.workload)))


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
        ),
        Service(
            name="code",
            excerpt="azure2023_code",
            share=1.0,
            prompt_price="0.10",
            output_price="0.40",
            promise_seconds=1.0,
            patience_seconds=8.0,
        ),
    ),
    phases=(Phase(share=1 / 6, load=0.8), Phase(share=4 / 6, load=1.5), Phase(share=1 / 6, load=0.6)),
    replicas=4,
    slots=64,
    chunk_tokens=512,
    kv_token_capacity=400_000,
    solo_nanoseconds=11_470_000,
    knee_tokens=32,
    per_token_nanoseconds=55_500,
    per_sequence_nanoseconds=117_000,
)
