"""What the API server refuses is refused offline with the same words."""

from __future__ import annotations

import pytest
from tests.corpus.bad_objects import BadObject, load

from sluice.api.base import RULES_KEY
from sluice.api.resources import KINDS
from sluice.api.schema import Schema, structural
from sluice.api.validate import problems

CORPUS = load()


@pytest.mark.parametrize("bad", CORPUS, ids=[bad.name for bad in CORPUS])
def test_a_bad_object_is_refused_with_the_servers_words(bad: BadObject) -> None:
    assert sorted(problems(bad.document)) == sorted(bad.refused), bad.sentence


def test_the_corpus_covers_every_kind_and_every_rule() -> None:
    def messages(node: Schema) -> set[str]:
        found = {rule["message"] for rule in node.get(RULES_KEY, ())}
        for child in (*node.get("properties", {}).values(), *([node["items"]] if "items" in node else ())):
            found |= messages(child)
        return found

    assert len(CORPUS) >= 25
    assert {bad.document["kind"] for bad in CORPUS} == set(KINDS)
    said = "\n".join(message for bad in CORPUS for message in bad.refused)
    assert [message for kind in KINDS for message in messages(structural(kind)) if message not in said] == []


def test_sentences_tell_the_objects_apart() -> None:
    assert len({bad.sentence for bad in CORPUS}) == len(CORPUS)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        pytest.param(
            {"apiVersion": "sluice.dev/v1", "kind": "InferenceFleet"},
            ['no matches for kind "InferenceFleet" in version "sluice.dev/v1"'],
            id="a version that is not served",
        ),
        pytest.param(
            {"apiVersion": "sluice.dev/v1alpha1", "kind": "Fleet"},
            ['no matches for kind "Fleet" in version "sluice.dev/v1alpha1"'],
            id="a kind that does not exist",
        ),
        pytest.param({"apiVersion": "v1", "kind": "Pod", "spec": {"x": 1}}, [], id="other groups are not ours"),
    ],
)
def test_objects_that_are_not_ours(document: dict[str, object], said: list[str]) -> None:
    assert problems(document) == said
