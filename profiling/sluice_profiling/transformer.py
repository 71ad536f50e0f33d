"""One engine iteration of a dense transformer with random weights, in torch.

The iteration is what an engine with chunked prefill does: the chunk's prompt tokens and
one token of every decoding sequence go through the projections and feed-forward layers
together, and apart through attention, where the chunk (the first of its prompt) looks
back over itself and every sequence over its context. The KV cache is written and read at full size.

With several ranks every layer is split as engines do it: heads and feed-forward columns
apart, one all-reduce after attention and one after the feed-forward layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor
from torch.nn import functional

from sluice_profiling.measurement import Point
from sluice_profiling.shape import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where and in what precision to run."""

    device: torch.device
    dtype: torch.dtype
    ranks: int = 1


@dataclass(frozen=True, slots=True)
class _Layer:
    attention_norm: Tensor
    query_key_value: Tensor
    output: Tensor
    feed_forward_norm: Tensor
    gate_up: Tensor
    down: Tensor


class Transformer:
    """The weights of one rank."""

    def __init__(self, shape: Shape, placement: Placement, *, seed: int = 0) -> None:
        shape.check_parallel(placement.ranks)
        self.shape, self.placement = shape, placement
        self._generator = torch.Generator(device=placement.device).manual_seed(seed)
        self.heads = shape.attention_heads // placement.ranks
        self.key_value_heads = shape.key_value_heads // placement.ranks
        self._embedding = self._random(shape.vocabulary, shape.hidden_size)
        self._head = self._random(shape.vocabulary // placement.ranks, shape.hidden_size)
        self._final_norm = self._ones(shape.hidden_size)
        self._layers = [self._layer() for _ in range(shape.layers)]

    def _layer(self) -> _Layer:
        shape, hidden = self.shape, self.shape.hidden_size
        wide = shape.intermediate_size // self.placement.ranks
        return _Layer(
            attention_norm=self._ones(hidden),
            query_key_value=self._random((self.heads + 2 * self.key_value_heads) * shape.head_size, hidden),
            output=self._random(hidden, self.heads * shape.head_size),
            feed_forward_norm=self._ones(hidden),
            gate_up=self._random(2 * wide, hidden),
            down=self._random(hidden, wide),
        )

    def _random(self, *size: int) -> Tensor:
        place = {"device": self.placement.device, "dtype": self.placement.dtype}
        return torch.randn(*size, generator=self._generator, **place) / size[-1] ** 0.5

    def _ones(self, size: int) -> Tensor:
        return torch.ones(size, device=self.placement.device, dtype=self.placement.dtype)

    def iteration(self, point: Point) -> Iteration:
        """Prepare the inputs and the KV cache of one working point."""
        return Iteration(self, point)

    def run(self, iteration: Iteration) -> Tensor:
        """One iteration: the logits of the sequences that get a token."""
        hidden = functional.embedding(iteration.tokens, self._embedding)
        for layer, cache in zip(self._layers, iteration.caches, strict=True):
            normal = self._norm(hidden, layer.attention_norm)
            mixed = iteration.attend(functional.linear(normal, layer.query_key_value), cache)
            hidden = hidden + self._reduce(functional.linear(mixed, layer.output))
            normal = self._norm(hidden, layer.feed_forward_norm)
            gate, up = functional.linear(normal, layer.gate_up).chunk(2, dim=-1)
            hidden = hidden + self._reduce(functional.linear(functional.silu(gate) * up, layer.down))
        answered = self._norm(hidden[iteration.answered], self._final_norm)
        return functional.linear(answered, self._head)

    def _norm(self, hidden: Tensor, weight: Tensor) -> Tensor:
        return functional.rms_norm(hidden, (self.shape.hidden_size,), weight)

    def _reduce(self, partial: Tensor) -> Tensor:
        if self.placement.ranks > 1:
            torch.distributed.all_reduce(partial)
        return partial


class Iteration:
    """The tensors of one working point; addresses stay put, so that a graph may be captured."""

    def __init__(self, model: Transformer, point: Point) -> None:
        if point.chunk_tokens + point.batch < 1:
            raise ValueError("an iteration holds at least one token")
        shape, placement = model.shape, model.placement
        self._model = model
        self._chunk, self._batch = point.chunk_tokens, point.batch
        tokens = self._chunk + self._batch
        self.tokens = torch.arange(tokens, device=placement.device) % shape.vocabulary
        # The chunk's last token and every decoding sequence get a next token.
        self.answered = torch.arange(max(0, self._chunk - 1), tokens, device=placement.device)
        self.caches = [self._cache(point.context_tokens) for _ in range(shape.layers)]

    def _cache(self, context: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the decoding sequences, this iteration's token at the end."""
        model = self._model
        size = (2, self._batch, model.key_value_heads, context + 1, model.shape.head_size)
        place = {"device": model.placement.device, "dtype": model.placement.dtype}
        keys, values = torch.zeros(*size, **place)
        return keys, values

    def attend(self, projected: Tensor, cache: tuple[Tensor, Tensor]) -> Tensor:
        """Attention of the chunk over itself and of every sequence over its context."""
        model, size = self._model, self._model.shape.head_size
        heads, pairs = model.heads, model.key_value_heads
        query, key, value = projected.split([heads * size, pairs * size, pairs * size], dim=-1)
        parts = []
        if self._chunk:
            # 1 x heads x tokens x size
            own_query, own_key, own_value = (
                part[: self._chunk].unflatten(-1, (-1, size)).transpose(0, 1)[None] for part in (query, key, value)
            )
            answer = functional.scaled_dot_product_attention(
                own_query, own_key, own_value, is_causal=True, enable_gqa=True
            )
            parts.append(answer[0].transpose(0, 1).flatten(1))
        if self._batch:
            # sequences x heads x 1 x size
            last_query, last_key, last_value = (
                part[self._chunk :].unflatten(-1, (-1, size))[:, :, None] for part in (query, key, value)
            )
            keys, values = cache
            keys[:, :, -1:] = last_key
            values[:, :, -1:] = last_value
            answer = functional.scaled_dot_product_attention(last_query, keys, values, enable_gqa=True)
            parts.append(answer.flatten(1))
        return torch.cat(parts)
