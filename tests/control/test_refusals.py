"""The corpus of bad objects: the API server refuses each with the words that the offline check uses."""

from __future__ import annotations

import pytest
from tests.controlplane.admin import Admin, Refused
from tests.corpus.bad_objects import BadObject, load, server_words

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(300)]

CORPUS = load()


@pytest.mark.parametrize("bad", CORPUS, ids=[bad.name for bad in CORPUS])
def test_the_server_refuses_with_the_same_words(admin: Admin, bad: BadObject) -> None:
    with pytest.raises(Refused) as refused:
        admin.create(bad.document)
    assert sorted(server_words(refused.value.status)) == sorted(bad.refused), bad.sentence
