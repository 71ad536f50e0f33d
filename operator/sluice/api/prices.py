"""Prices as users write them, and the values that stand in for them where nobody wrote any.

Money is a decimal string in the user's own unit: ``promptPerMillionTokens: "0.15"``.
"""

from __future__ import annotations

from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, ClassVar, Final

from pydantic import Field

from sluice.api.base import MONEY_MAX_LENGTH, MONEY_PATTERN, Declared, Rule
from sluice.model.fleet import Charging, Tier

TOKENS_PER_PRICE: Final = 1_000_000
"""Prices are per million tokens, as providers list them."""

TIER_TOKEN_VALUES: Final = MappingProxyType({Tier.PROTECTED: 100.0, Tier.STANDARD: 1.0, Tier.BEST_EFFORT: 0.01})
"""Value of a token, prompt or output, where no price is declared: 1:1 inside a tier.

A factor of 100 between tiers, so that the tier decides before the shape of requests does:
with equal token values the order index (w / (D + kappa' P), model paper section 2.3) of two classes of one
tier differs by at most 1/kappa', which is 28 for the paper's 8B instance (B=16, C=256).
"""

Money = Annotated[str, Field(pattern=MONEY_PATTERN, max_length=MONEY_MAX_LENGTH)]


class Prices(Declared):
    """Token prices; a price per million tokens is a decimal string such as "0.15"."""

    rules: ClassVar[tuple[Rule, ...]] = ()

    prompt_per_million_tokens: Money = Field(
        description='Money per million prompt tokens, cached ones included: a decimal string such as "0.15".'
    )
    output_per_million_tokens: Money = Field(
        description='Money per million output tokens: a decimal string such as "0.60".'
    )


class Pricing(Declared):
    """How requests earn, and what a token is worth where a class does not say."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.promptPerMillionTokens) == has(self.outputPerMillionTokens)",
            "give both promptPerMillionTokens and outputPerMillionTokens, or neither: one price alone would make "
            "the other kind of token worthless",
        ),
    )

    charging: Charging = Field(
        default=Charging.BUNDLED,
        description="Bundled: a request pays for prompt and output when its answer is complete. Separate: the prompt "
        "pays when its prefill ends, the output when decoding ends.",
    )
    prompt_per_million_tokens: Money | None = Field(
        default=None,
        description='Default money per million prompt tokens for classes without prices, such as "0.15".',
    )
    output_per_million_tokens: Money | None = Field(
        default=None,
        description='Default money per million output tokens for classes without prices, such as "0.60".',
    )


def per_token(per_million: str) -> float:
    """Money per token from money per million tokens."""
    return float(Decimal(per_million) / TOKENS_PER_PRICE)
