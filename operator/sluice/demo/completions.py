"""The OpenAI-compatible documents of a simulated replica: requests in, answers out. Pure.

Nobody reads the words, only their number counts. A prompt's length is, in this order:

* ``simulated_prompt_tokens`` in the body (our own field: a load generator need not send
  kilobytes of filler);
* the number of items where ``prompt`` is a list of token ids, as the API allows;
* a quarter of the characters of prompt or messages, the usual rule of thumb for English.

An answer has exactly ``max_tokens`` tokens (``max_completion_tokens`` for chat), as if
``ignore_eos`` were set: a simulated model has no opinion about when to stop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

CHARACTERS_PER_TOKEN = 4
_DEFAULT_OUTPUT_TOKENS = 16
"""What the completions API answers where ``max_tokens`` is absent."""
_WORD = " word"


class BadRequestError(ValueError):
    """The body is not a request; the message names the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """What a replica takes from the body."""

    model: str
    prompt_tokens: int
    output_tokens: int
    stream: bool
    include_usage: bool
    chat: bool


def parse(body: bytes, *, chat: bool) -> CompletionRequest:
    """Read a body of ``/v1/completions`` or, with ``chat``, ``/v1/chat/completions``."""
    try:
        document = json.loads(body)
    except ValueError as error:
        raise BadRequestError(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadRequestError("the body must be a JSON object")
    model = document.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequestError("`model` must name a served model")
    options = document.get("stream_options") or {}
    return CompletionRequest(
        model=model,
        prompt_tokens=_prompt_tokens(document, chat=chat),
        output_tokens=_positive(document, "max_completion_tokens", "max_tokens") or _DEFAULT_OUTPUT_TOKENS,
        stream=bool(document.get("stream", False)),
        include_usage=bool(options.get("include_usage", False)) if isinstance(options, dict) else False,
        chat=chat,
    )


def _prompt_tokens(document: Mapping[str, Any], *, chat: bool) -> int:
    if declared := _positive(document, "simulated_prompt_tokens"):
        return declared
    content = document.get("messages" if chat else "prompt")
    if chat and isinstance(content, list) and content:
        characters = sum(len(str(message.get("content", ""))) for message in content if isinstance(message, dict))
    elif not chat and isinstance(content, list) and content and all(isinstance(item, int) for item in content):
        return len(content)
    elif not chat and isinstance(content, str):
        characters = len(content)
    else:
        raise BadRequestError("`messages` must be a list" if chat else "`prompt` must be a string or token ids")
    return max(1, ceil(characters / CHARACTERS_PER_TOKEN))


def _positive(document: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = document.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise BadRequestError(f"`{name}` must be a positive integer")
        return value
    return None


def event(request: CompletionRequest, identity: str, tokens: int, *, last: bool) -> bytes:
    """One server-sent event that carries ``tokens`` tokens of the answer.

    Several tokens in one event are what vLLM sends with ``--stream-interval``.
    """
    text = _WORD * tokens
    finish = "length" if last else None
    if request.chat:
        choice: dict[str, Any] = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    else:
        choice = {"index": 0, "text": text, "finish_reason": finish}
    return _event({**_head(request, identity, chunk=True), "choices": [choice]})


def ending(request: CompletionRequest, identity: str) -> bytes:
    """The end of a stream: usage where it was asked for, and the API's mark."""
    done = b"data: [DONE]\n\n"
    if not request.include_usage:
        return done
    return _event({**_head(request, identity, chunk=True), "choices": [], "usage": _usage(request)}) + done


def answer(request: CompletionRequest, identity: str) -> dict[str, Any]:
    """The whole answer of a request that does not stream."""
    text = _WORD * request.output_tokens
    if request.chat:
        choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}}
    else:
        choice = {"index": 0, "text": text}
    choice["finish_reason"] = "length"
    return {**_head(request, identity, chunk=False), "choices": [choice], "usage": _usage(request)}


def error(message: str, kind: str, status: int) -> dict[str, Any]:
    """An error document in the shape that vLLM uses."""
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}


def _head(request: CompletionRequest, identity: str, *, chunk: bool) -> dict[str, Any]:
    kind = "text_completion"
    if request.chat:
        kind = "chat.completion.chunk" if chunk else "chat.completion"
    return {"id": identity, "object": kind, "model": request.model, "system_fingerprint": "simulated"}


def _usage(request: CompletionRequest) -> dict[str, int]:
    return {
        "prompt_tokens": request.prompt_tokens,
        "completion_tokens": request.output_tokens,
        "total_tokens": request.prompt_tokens + request.output_tokens,
    }


def _event(document: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"
