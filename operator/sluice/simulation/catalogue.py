"""Regimes by the names used in print: the paper's, its baselines, and what people run today.

The first letter is the order of prefills (G gate, F first come, X index, Q queue gate, B
bands, P prioritised, T timely), the second what decode does (G greedy router, I in place, F
prefill-first on a free slot); SP keeps a partition of mixed and solo replicas, WSP does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

from sluice.model.fleet import Pool
from sluice.policy.admission import UNBOUNDED, AdmissionPolicy, Budget
from sluice.policy.orders import BANDS, CAPPED_GATE, FIRST_COME, GATE, PRIORITY, QUEUE_GATE, TIMELY
from sluice.simulation.layout import Batching, Decode, Placement, Sight
from sluice.simulation.regime import Regime

ONE_PREFILL = Budget(least_requests=1, tokens=0.0)
"""The paper's engines: one prefill per replica at a time."""


def _network(name: str, order: AdmissionPolicy, **how: object) -> Regime:
    """A regime of the paper's network: the gate sees slots, one prefill per replica."""
    base = Regime(admission=replace(order, name=name), budget=ONE_PREFILL, sees_slots=Sight.ENDS)
    return replace(base, **how)  # type: ignore[arg-type]  # keyword arguments of one dataclass


_ROUTED = Decode.SOLO_FIRST

NETWORK = MappingProxyType(
    {
        regime.name: regime
        for regime in (
            _network("GG-SP", GATE, decode=_ROUTED, partition=True),
            _network("HG-SP", GATE, decode=_ROUTED, partition=True, guard=True),
            _network("CG-SP", CAPPED_GATE, decode=_ROUTED, partition=True),
            _network("QG-SP", QUEUE_GATE, decode=_ROUTED, partition=True),
            _network("FG-SP", FIRST_COME, decode=_ROUTED, partition=True),
            _network("PG-SP", PRIORITY, decode=_ROUTED, partition=True),
            _network("SLI-SP", GATE, decode=Decode.SPLIT, partition=True),
            _network("SLI-QD-SP", GATE, decode=Decode.SPLIT_BY_CLASS, partition=True),
            _network("GG-WSP", GATE, decode=_ROUTED),
            _network("QG-WSP", QUEUE_GATE, decode=_ROUTED),
            _network("XG-WSP", PRIORITY, decode=_ROUTED),
            _network("BG-WSP", BANDS, decode=_ROUTED),
            _network("TG-WSP", TIMELY, decode=_ROUTED),
            _network("GF-WSP", GATE, decode=_ROUTED, eager=True),
            _network("GI-WSP", GATE),
            _network("QI-WSP", QUEUE_GATE),
            _network("XI-WSP", PRIORITY),
            _network("BI-WSP", BANDS),
            _network("TI-WSP", TIMELY),
            _network("FI-WSP", FIRST_COME),
        )
    }
)
"""Regimes of the paper's network."""


def _engine(name: str, **how: object) -> Regime:
    base = Regime(admission=replace(FIRST_COME, name=name), budget=UNBOUNDED, placement=Placement.FEWEST_REQUESTS)
    return replace(base, **how)  # type: ignore[arg-type]  # keyword arguments of one dataclass


TODAY = MappingProxyType(
    {
        regime.name: regime
        for regime in (
            _engine("chunked"),
            _engine("chunked-least-tokens", placement=Placement.FEWEST_TOKENS),
            _engine("chunked-round-robin", placement=Placement.ROUND_ROBIN),
            _engine("chunked-random", placement=Placement.RANDOM),
            _engine("chunked-prefix-aware", placement=Placement.PREFIX_AWARE),
            _engine("prefill-first", batching=Batching.PREFILL_FIRST),
            _engine("decode-first", batching=Batching.DECODE_FIRST),
            _engine("disaggregated", disaggregated=True, decode=Decode.SOLO_FIRST),
        )
    }
)
"""What people run today: every request goes to an engine at once, the engine queues first come first served."""


def gated(
    policy: AdmissionPolicy, *, name: str | None = None, budget: Budget, sees_slots: Sight = Sight.NONE
) -> Regime:
    """A regime under the live gate's view: in place, budget in tokens."""
    admission = policy if name is None else replace(policy, name=name)
    return Regime(admission=admission, budget=budget, placement=Placement.FEWEST_TOKENS, sees_slots=sees_slots)


def live_gate(policy: AdmissionPolicy, pools: Sequence[Pool], *, sees_slots: Sight = Sight.ENDS) -> Regime:
    """The gate as it stands at a proxy: its budget, prompts counted in full until their first token, slots seen."""
    budget = Budget(least_requests=2, tokens=2.0 * min(pool.batched_token_budget for pool in pools))
    return replace(gated(policy, budget=budget, sees_slots=sees_slots), whole_prompts=True)
