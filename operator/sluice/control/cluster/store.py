"""The world as the API server tells it: filled by listing, kept fresh by the watch.

A pass must never see half a world (a fleet with one of its three classes would be planned
as if the others were gone), so the store is filled by a full listing before the first
pass. The watch keeps it fresh from then on, and a listing every few minutes repairs what
a silent watch or a missed deletion left behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from sluice.actuate.kinds import Kind
from sluice.control.cluster.kinds import BY_KIND, Document, essence, slim
from sluice.control.ports import Ref, WorldView
from sluice.control.pulse import Pulse

GONE_REMEMBERED = 1000
"""Uids of deleted objects, so that an answer that is late does not bring one back."""


class Store:
    """Objects by reference; a ``World`` for the loop."""

    def __init__(self, assemble: Callable[[Iterable[Document]], WorldView]) -> None:
        self._assemble = assemble
        self._objects: dict[Ref, dict[str, Any]] = {}
        self._view: WorldView | None = None
        self._pulse = Pulse()
        self._gone: deque[str | None] = deque(maxlen=GONE_REMEMBERED)

    def view(self) -> WorldView:
        """Everything known now; the same value until something changes."""
        if self._view is None:
            self._view = self._assemble(self._objects.values())
        return self._view

    async def changed(self) -> frozenset[str]:
        """Wait for changes that deserve a pass; the namespaces they are in."""
        return await self._pulse.taken()

    def get(self, ref: Ref) -> Document | None:
        """One object, or None."""
        return self._objects.get(ref)

    def put(self, kind: Kind, body: Document) -> None:
        """An object as the watch, a listing or the answer to our own write shows it."""
        document = slim(kind, body)
        ref = _ref(kind, document)
        known = self._objects.get(ref)
        if document["metadata"].get("uid") in self._gone:
            return  # a listing or an answer that was on its way while the object went
        if known is not None and _is_older(document, known):
            return  # the watch lags behind the answer to our own write
        if known == document:
            return
        self._objects[ref] = document
        self._view = None
        if known is None or essence(kind, known) != essence(kind, document):
            self._pulse.beat((ref.namespace,))

    def remove(self, kind: Kind, body: Document) -> None:
        """An object is gone."""
        document = slim(kind, body)
        ref = _ref(kind, document)
        self._gone.append(document["metadata"].get("uid"))
        known = self._objects.get(ref)
        if known is None or known["metadata"].get("uid") != document["metadata"].get("uid"):
            return  # it was created anew meanwhile
        del self._objects[ref]
        self._view = None
        self._pulse.beat((ref.namespace,))

    def replace(self, kind: Kind, namespace: str | None, bodies: Iterable[Document], version: str) -> None:
        """A full listing of ``kind`` in ``namespace`` (None: everywhere), taken at resource version ``version``."""
        found = {_ref(kind, body): body for body in bodies}
        for ref in [ref for ref in self._objects if ref.kind == kind.name and namespace in (None, ref.namespace)]:
            known = self._objects[ref]
            if ref not in found and not _is_newer(known["metadata"].get("resourceVersion"), version):
                self.remove(kind, known)
        for body in found.values():
            self.put(kind, body)


def kind_of(document: Document) -> Kind:
    """The kind of a document in the store."""
    return BY_KIND[document["kind"]]


def _ref(kind: Kind, document: Document) -> Ref:
    metadata = document["metadata"]
    return Ref(kind=kind.name, namespace=metadata.get("namespace", ""), name=metadata["name"])


def _is_older(document: Document, known: Document) -> bool:
    """Whether ``document`` is an earlier state of the very object that is known."""
    one, other = document["metadata"], known["metadata"]
    if one.get("uid") != other.get("uid"):
        return False
    return _is_newer(other.get("resourceVersion"), one.get("resourceVersion"))


def _is_newer(one: object, other: object) -> bool:
    """Whether resource version ``one`` is later than ``other``; False where this server's cannot be compared."""
    versions = str(one), str(other)
    return all(version.isdecimal() for version in versions) and int(versions[0]) > int(versions[1])
