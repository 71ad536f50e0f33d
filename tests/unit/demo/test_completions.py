"""How many tokens a request has, without a tokenizer."""

from __future__ import annotations

import json

import pytest

from sluice.demo.completions import BadRequestError, parse


@pytest.mark.parametrize(
    ("fields", "chat", "prompt_tokens", "output_tokens"),
    [
        pytest.param({"prompt": "x" * 9, "max_tokens": 3}, False, 3, 3, id="four characters are a token, rounded up"),
        pytest.param({"prompt": [7, 8, 9]}, False, 3, 16, id="token ids count themselves; the API's default answer"),
        pytest.param({"prompt": "x", "simulated_prompt_tokens": 700}, False, 700, 16, id="a declared length wins"),
        pytest.param(
            {"messages": [{"role": "user", "content": "x" * 40}], "max_completion_tokens": 5, "max_tokens": 9},
            True,
            10,
            5,
            id="messages are counted together; the newer name of the cap wins",
        ),
    ],
)
def test_lengths(fields: dict[str, object], chat: bool, prompt_tokens: int, output_tokens: int) -> None:
    request = parse(json.dumps({"model": "m", **fields}).encode(), chat=chat)
    assert (request.prompt_tokens, request.output_tokens) == (prompt_tokens, output_tokens)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not JSON"),
        (b'{"prompt": "x"}', "`model`"),
        (b'{"model": "m", "prompt": {}}', "`prompt`"),
        (b'{"model": "m", "prompt": "x", "simulated_prompt_tokens": "many"}', "simulated_prompt_tokens"),
    ],
)
def test_a_bad_body_is_refused_by_the_name_of_its_field(body: bytes, words: str) -> None:
    with pytest.raises(BadRequestError, match=words):
        parse(body, chat=False)
