"""A body has the size that its request has on the wire, and the replica finds the true lengths in it."""

from __future__ import annotations

import pytest

from sluice.demo import completions
from sluice.demo.load import Request, body


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("size", [400, 4001, 70_000])
def test_a_body_is_of_real_size_and_says_the_true_number_of_tokens(chat: bool, size: int) -> None:
    request = Request(
        at_seconds=0.0,
        workload="a",
        model="m",
        chat=chat,
        prompt_tokens=777,
        output_tokens=5,
        patience_seconds=1.0,
        body_bytes=size,
    )
    posted = body(request)
    assert len(posted) == size
    read = completions.parse(posted, chat=chat)
    assert (read.prompt_tokens, read.output_tokens, read.stream, read.model) == (777, 5, True, "m")


def test_a_tiny_prompt_still_makes_a_valid_body() -> None:
    request = Request(
        at_seconds=0.0,
        workload="a",
        model="m",
        chat=True,
        prompt_tokens=3,
        output_tokens=5,
        patience_seconds=1.0,
        body_bytes=12,
    )
    assert completions.parse(body(request), chat=True).prompt_tokens == 3
