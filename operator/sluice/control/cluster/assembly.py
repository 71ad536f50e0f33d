"""Documents of the API server to the view that a pass works on; each version of an object is read once. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from sluice.api.inference_fleet import InferenceFleetResource
from sluice.api.iteration_profile import IterationProfileResource
from sluice.api.workload_class import WorkloadClassResource
from sluice.control.cluster.kinds import CLASSES, FLEETS, PROFILES, Document
from sluice.control.ports import Ref, Refusal, WorldView

_MODELS: dict[str, type[BaseModel]] = {
    FLEETS.name: InferenceFleetResource,
    CLASSES.name: WorkloadClassResource,
    PROFILES.name: IterationProfileResource,
}


class Assembly:
    """Turns the store's documents into a view."""

    def __init__(self, unwatched: frozenset[str] = frozenset()) -> None:
        self._unwatched = unwatched
        self._read: dict[Ref, tuple[str, BaseModel | Refusal]] = {}

    def __call__(self, documents: Iterable[Document]) -> WorldView:
        """The view; an object of ours that this version cannot read becomes a refusal."""
        fleets: list[InferenceFleetResource] = []
        classes: list[WorkloadClassResource] = []
        profiles: list[IterationProfileResource] = []
        refusals: list[Refusal] = []
        others: list[Document] = []
        fresh: dict[Ref, tuple[str, BaseModel | Refusal]] = {}
        for document in documents:
            if document["kind"] not in _MODELS:
                others.append(document)
                continue
            ref = _ref(document)
            fresh[ref] = self._resource(ref, document)
            match fresh[ref][1]:
                case InferenceFleetResource() as fleet:
                    fleets.append(fleet)
                case WorkloadClassResource() as entry:
                    classes.append(entry)
                case IterationProfileResource() as profile:
                    profiles.append(profile)
                case Refusal() as refusal:
                    refusals.append(refusal)
        self._read = fresh
        return WorldView(
            fleets=tuple(sorted(fleets, key=_name)),
            classes=tuple(sorted(classes, key=_name)),
            profiles=tuple(sorted(profiles, key=_name)),
            objects=tuple(others),
            refusals=tuple(refusals),
            unwatched=self._unwatched,
            complete=True,
        )

    def _resource(self, ref: Ref, document: Document) -> tuple[str, BaseModel | Refusal]:
        version = str(document["metadata"].get("resourceVersion", ""))
        known = self._read.get(ref)
        if known is not None and known[0] == version:
            return known
        try:
            return version, _MODELS[ref.kind].model_validate(document)
        except ValidationError as error:
            return version, _refusal(ref, document, error)


def _refusal(ref: Ref, document: Document, error: ValidationError) -> Refusal:
    """What the server let through and this version cannot read: the definitions are of another version."""
    problems = tuple(f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors())
    metadata: dict[str, Any] = document["metadata"]
    return Refusal(
        ref=ref,
        problems=problems,
        uid=str(metadata.get("uid", "")),
        generation=int(metadata.get("generation", 0)),
        status=document.get("status") or {},
    )


def _ref(document: Document) -> Ref:
    metadata = document["metadata"]
    return Ref(kind=document["kind"], namespace=metadata["namespace"], name=metadata["name"])


def _name(resource: Any) -> tuple[str, str]:
    return resource.metadata.namespace, resource.metadata.name
