"""The paper's two-class instance, in requests of one replica."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sluice.model.fleet import Charging
from sluice.planning.modes import Mode
from sluice.planning.problem import ClassInput, PoolInput, Problem

PAPER_MODES = (Mode(256, 15, 0.0174 + 6.2e-5 * 256), Mode(0, 16, 0.022))
"""Qwen-8B on an A100 at B = 16, C = 256 (paper, section 6.1), with 1/gamma = 0.022 s."""


def paper(
    charging: Charging = Charging.BUNDLED,
    *,
    replicas: int = 1,
    pools: int = 1,
    rate: float = 0.5,
    theta: float = 0.1,
) -> Problem:
    """The instance of the paper's section 6.2; ``rate`` is per replica and class."""
    lengths = {"decode-heavy": (300.0, 1000.0), "prefill-heavy": (3000.0, 400.0)}
    return Problem(
        fleet="default/paper",
        charging=charging,
        pools=tuple(PoolInput(name=f"pool-{k}", ready=replicas, modes=PAPER_MODES) for k in range(pools)),
        classes=tuple(
            ClassInput(
                name=name,
                rate=rate * replicas * pools,
                prompt_tokens=prompt,
                uncached_prompt_tokens=prompt,
                output_tokens=output,
                abandonment_rate=theta,
                prompt_token_price=0.1,
                output_token_price=0.2,
            )
            for name, (prompt, output) in lengths.items()
        ),
    )


@pytest.fixture
def paper_instance() -> Callable[..., Problem]:
    """``paper`` as a fixture: test folders are no packages."""
    return paper
