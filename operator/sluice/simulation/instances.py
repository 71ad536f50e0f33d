"""Instances of the paper's model: its own with two classes, and random draws from its ranges."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sluice.model.fleet import Pool
from sluice.model.law import IterationLaw
from sluice.simulation.measure import Prices

POOL_NAME = "pool"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkClass:
    """One class of the paper's model."""

    prompt_tokens: float
    output_tokens: float
    rate: float
    """Requests per second and replica (lambda)."""
    abandonment_rate: float
    """Per second (theta)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One instance of the paper's model, per replica."""

    classes: tuple[NetworkClass, ...]
    slots: int
    chunk_tokens: int
    mixed_base_seconds: float
    """alpha"""
    per_token_seconds: float
    """beta"""
    solo_seconds: float
    """1/gamma"""
    prompt_price: float
    output_price: float

    @property
    def names(self) -> tuple[str, ...]:
        """Class names: their numbers."""
        return tuple(str(i) for i in range(len(self.classes)))

    @property
    def pool(self) -> Pool:
        """The instance's replicas as a pool; decode moves freely."""
        law = IterationLaw(
            solo_seconds=self.solo_seconds,
            mixed_base_seconds=self.mixed_base_seconds,
            per_token_seconds=self.per_token_seconds,
        )
        return Pool(
            name=POOL_NAME,
            law=law,
            slots=self.slots,
            chunk_tokens=self.chunk_tokens,
            batched_token_budget=self.chunk_tokens + self.slots,
            decode_may_move=True,
        )

    @property
    def prices(self) -> tuple[Prices, ...]:
        """Every class pays the same per token."""
        return tuple(Prices(prompt_token=self.prompt_price, output_token=self.output_price) for _ in self.classes)

    def displacement(self) -> float:
        """Decode tokens displaced per prompt token, kappa' of model page section 2.3."""
        tau = self.pool.mixed_seconds
        return (self.slots * tau / self.solo_seconds - (self.slots - 1)) / self.chunk_tokens

    def token_row_index(self) -> tuple[float, ...]:
        """Value per token of the token row, model page section 2.3."""
        kappa = self.displacement()
        return tuple(
            (self.prompt_price * c.prompt_tokens + self.output_price * c.output_tokens)
            / (c.output_tokens + kappa * c.prompt_tokens)
            for c in self.classes
        )

    def scaled(self, factor: float) -> Instance:
        """The same classes at ``factor`` times the arrivals."""
        return replace(self, classes=tuple(replace(c, rate=c.rate * factor) for c in self.classes))

    def token_load(self) -> float:
        """Offered use of the token row over its capacity: above 1 the fleet is overloaded."""
        kappa = self.displacement()
        offered = sum(c.rate * (c.output_tokens + kappa * c.prompt_tokens) for c in self.classes)
        return offered * self.solo_seconds / self.slots

    def prefill_load(self) -> float:
        """Offered use of the prefill row over its capacity."""
        return sum(c.rate * c.prompt_tokens for c in self.classes) * self.pool.mixed_seconds / self.chunk_tokens


PAPER_8B = Instance(
    classes=(
        NetworkClass(prompt_tokens=300.0, output_tokens=1000.0, rate=0.5, abandonment_rate=0.1),
        NetworkClass(prompt_tokens=3000.0, output_tokens=400.0, rate=0.5, abandonment_rate=0.1),
    ),
    slots=16,
    chunk_tokens=256,
    mixed_base_seconds=0.0174,
    per_token_seconds=6.2e-5,
    solo_seconds=0.022,
    prompt_price=0.1,
    output_price=0.2,
)
"""The two-class instance of section 6.2 with the 8B constants."""


def random_instance(seed: int, classes: int) -> Instance:
    """A draw from the ranges of section 6.3; draws outside Prop 3.2's condition are drawn again.

    alpha .015-.02, beta 1e-5-1e-3, gamma 10-50, lengths 200-3000, rates .25 or .5 times
    2/I: heavily overloaded (model page section 6.4).
    """
    source = np.random.Generator(np.random.Philox(key=seed))
    while True:
        instance = _with_drawn_law(
            source,
            16,
            tuple(
                NetworkClass(
                    prompt_tokens=float(source.uniform(200, 3000)),
                    output_tokens=float(source.uniform(200, 3000)),
                    rate=float(source.choice([0.25, 0.5])) * 2.0 / classes,
                    abandonment_rate=0.1,
                )
                for _ in range(classes)
            ),
        )
        if _is_regular(instance):
            return instance


def wide_instance(seed: int, classes: int, slots: int) -> Instance:
    """Lengths over two decades, short answers to long prompts among them, so that prefill may bind too.

    Prompts of 100 to 10,000 and answers of 20 to 2,000 tokens, even in the logarithm; arrivals
    that ask for one and a half to three times what one row can serve, shared out evenly.
    """
    source = np.random.Generator(np.random.Philox(key=seed))
    while True:
        lengths = np.exp(source.uniform(np.log((100.0, 20.0)), np.log((10_000.0, 2_000.0)), (classes, 2)))
        load = float(source.uniform(1.5, 3.0))
        unit = tuple(
            NetworkClass(prompt_tokens=float(p), output_tokens=float(d), rate=1.0 / classes, abandonment_rate=0.1)
            for p, d in lengths
        )
        instance = _with_drawn_law(source, slots, unit)
        if _is_regular(instance):
            return instance.scaled(load / max(instance.token_load(), instance.prefill_load()))


def _with_drawn_law(source: np.random.Generator, slots: int, classes: tuple[NetworkClass, ...]) -> Instance:
    return Instance(
        classes=classes,
        slots=slots,
        chunk_tokens=256,
        mixed_base_seconds=float(source.uniform(0.015, 0.02)),
        per_token_seconds=float(source.uniform(1e-5, 1e-3)),
        solo_seconds=1.0 / float(source.uniform(10, 50)),
        prompt_price=0.1,
        output_price=0.2,
    )


def _is_regular(instance: Instance) -> bool:
    return instance.displacement() >= 0 and instance.pool.mixed_seconds > instance.solo_seconds
