"""The shape of a dense decoder-only transformer: all that decides how long its kernels take.

Weights are random: an iteration's time depends on sizes, not on values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class UnsupportedShapeError(ValueError):
    """The configuration describes something this profiler does not build; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes, in the words of Hugging Face configurations."""

    name: str
    hidden_size: int
    layers: int
    attention_heads: int
    key_value_heads: int
    head_size: int
    intermediate_size: int
    vocabulary: int

    def __post_init__(self) -> None:
        if self.attention_heads % self.key_value_heads:
            raise UnsupportedShapeError("attention heads must be a multiple of key-value heads")

    @property
    def parameters(self) -> int:
        """Weights of the whole model, embedding and output head counted once each."""
        attention = self.hidden_size * self.head_size * 2 * (self.attention_heads + self.key_value_heads)
        feed_forward = 3 * self.hidden_size * self.intermediate_size
        return self.layers * (attention + feed_forward) + 2 * self.vocabulary * self.hidden_size

    def key_value_elements(self) -> int:
        """Numbers the KV cache holds per token, all layers."""
        return 2 * self.layers * self.key_value_heads * self.head_size

    def check_parallel(self, ranks: int) -> None:
        """Refuse a tensor parallelism that does not divide the heads and the feed-forward layer."""
        if self.attention_heads % ranks or self.key_value_heads % ranks or self.intermediate_size % ranks:
            raise UnsupportedShapeError(
                f"{ranks} ranks do not divide heads, key-value heads and intermediate size evenly"
            )


SHAPES: Mapping[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape(
            name="tiny",
            hidden_size=256,
            layers=4,
            attention_heads=8,
            key_value_heads=4,
            head_size=32,
            intermediate_size=704,
            vocabulary=2048,
        ),
        Shape(
            name="llama-3.1-8b",
            hidden_size=4096,
            layers=32,
            attention_heads=32,
            key_value_heads=8,
            head_size=128,
            intermediate_size=14336,
            vocabulary=128256,
        ),
        Shape(
            name="llama-3.1-70b",
            hidden_size=8192,
            layers=80,
            attention_heads=64,
            key_value_heads=8,
            head_size=128,
            intermediate_size=28672,
            vocabulary=128256,
        ),
    )
}
"""Shapes that need no file. ``tiny`` is ours; the others are the public configurations of those models."""


def shape_of(name: str) -> Shape:
    """A shape by its name, or by the path of its configuration."""
    if name in SHAPES:
        return SHAPES[name]
    path = Path(name)
    if not path.is_file():
        raise UnsupportedShapeError(f"shape {name}: neither one of {', '.join(SHAPES)} nor a file")
    return from_config(path)


def from_config(path: Path) -> Shape:
    """Read a Hugging Face ``config.json``; UnsupportedShapeError names what is missing or different."""
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UnsupportedShapeError(f"{path.name} is not JSON: {error}") from error
    config = config.get("text_config", config)
    if experts := config.get("num_local_experts") or config.get("num_experts") or config.get("n_routed_experts"):
        raise UnsupportedShapeError(f"{experts} experts: mixtures of experts are not built here; profile a live engine")
    try:
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        return Shape(
            name=str(config.get("_name_or_path") or config.get("model_type") or path.parent.name),
            hidden_size=hidden,
            layers=int(config["num_hidden_layers"]),
            attention_heads=heads,
            key_value_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or hidden // heads),
            intermediate_size=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
        )
    except KeyError as error:
        raise UnsupportedShapeError(f"{path.name} lacks {error}") from error
