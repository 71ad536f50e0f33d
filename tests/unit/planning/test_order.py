"""The order of classes keeps still against noise and follows what lasts."""

from __future__ import annotations

from sluice.planning.order import OrderMemory, settled_order


def test_an_index_inside_the_dead_band_moves_nobody() -> None:
    order, memory = settled_order({"a": 1.0, "b": 0.9}, OrderMemory(), 0.0)
    for second in range(1, 200):
        order, memory = settled_order({"a": 1.0, "b": 0.9 + 0.2 * (second % 2)}, memory, float(second))
        assert order == ("a", "b")


def test_a_lasting_change_takes_effect_after_the_dwell_and_not_before() -> None:
    _, memory = settled_order({"a": 1.0, "b": 0.5}, OrderMemory(), 0.0, dwell_seconds=60)
    seen = []
    for second in range(10, 90, 10):
        order, memory = settled_order({"a": 1.0, "b": 2.0}, memory, float(second), dwell_seconds=60)
        seen.append(order[0])
    assert seen == ["a"] * 6 + ["b"] * 2


def test_a_short_excursion_starts_the_dwell_anew() -> None:
    _, memory = settled_order({"a": 1.0, "b": 0.5}, OrderMemory(), 0.0)
    for second in range(10, 300, 10):
        index = 0.5 if second % 50 == 0 else 2.0
        order, memory = settled_order({"a": 1.0, "b": index}, memory, float(second))
        assert order == ("a", "b")


def test_classes_come_and_go() -> None:
    _, memory = settled_order({"a": 1.0, "b": 0.5}, OrderMemory(), 0.0)
    order, memory = settled_order({"b": 0.5, "c": 3.0}, memory, 1.0)
    assert order == ("c", "b")
    assert set(memory.ranked_by) == {"b", "c"}
