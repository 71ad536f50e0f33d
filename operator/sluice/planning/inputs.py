"""Pools and classes as the program sees them."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.model.fleet import ExternalPrices
from sluice.planning.modes import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolInput:
    """One pool as the program sees it."""

    name: str
    ready: int
    """Replicas that can serve."""
    engines_per_replica: int = 1
    reserved: float = 0.0
    """Engines' worth of capacity that traffic of no class takes."""
    modes: tuple[Mode, ...]
    """The working points that a replica may spend its time in; none for an external API."""
    cost_per_hour: float = 0.0
    """Money per replica and hour; enters the objective where the problem charges replicas."""
    kv_token_capacity: float | None = None
    """Tokens that one engine's KV cache holds; None: slots bind first."""
    decodes_move: bool = True
    """Whether a request may decode on another engine than the one that prefilled it, as the paper has it."""
    transfer_seconds_per_token: float = 0.0
    """Time a solo slot is held per prompt token while a request's KV cache moves to it."""
    transfer_cost_per_token: float = 0.0
    """Money per prompt token that moves."""
    external: ExternalPrices | None = None
    """Set: an API paid per token, with no capacity of ours."""

    @property
    def replicas(self) -> float:
        """Engines the plan may fill: the paper's n."""
        return max(0.0, self.ready * self.engines_per_replica - self.reserved)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassInput:
    """One class as the program sees it; rates are of the whole fleet."""

    name: str
    rate: float
    """Offered requests per second (the paper's lambda times n)."""
    prompt_tokens: float
    """Mean prompt tokens: what is paid for (the paper's P)."""
    uncached_prompt_tokens: float
    """Mean prompt tokens that must be computed: what takes prefill capacity."""
    output_tokens: float
    """Mean output tokens (the paper's D)."""
    tokens_per_step: float = 1.0
    """Output tokens per decode step; above 1 with speculative decoding."""
    abandonment_rate: float = 0.0
    """The paper's theta, per second; 0: clients wait for ever, what is not admitted is refused."""
    prompt_token_price: float
    output_token_price: float
    pools: tuple[str, ...] = ()
    """Pools the class may use; empty: all."""
    closable: bool = False
    rate_spread: float = 0.0
    """How far the rate may be off either way, relative: the box of the robust plan."""

    @property
    def decode_steps(self) -> float:
        """Decode steps of one request."""
        return self.output_tokens / self.tokens_per_step

    @property
    def value(self) -> float:
        """Money for one complete request (the paper's w, equation (21))."""
        return self.prompt_token_price * self.prompt_tokens + self.output_token_price * self.output_tokens

    def may_use(self, pool: str) -> bool:
        """Whether the class may be served by ``pool``."""
        return not self.pools or pool in self.pools
