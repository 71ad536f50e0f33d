"""Reads multi-document YAML into resources; what is wrong names file, object and field.

Scalars are read as kubectl reads them: times stay strings, ``on``/``off``/``yes``/``no``
are booleans (YAML 1.1), and a key that occurs twice is an error, not the last one wins.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import ValidationError

from sluice.api.inference_fleet import InferenceFleetResource
from sluice.api.iteration_profile import IterationProfileResource
from sluice.api.resources import CLASS, FLEET
from sluice.api.validate import is_ours, problems
from sluice.api.workload_class import WorkloadClassResource

DEFAULT_NAMESPACE = "default"

Resource = InferenceFleetResource | IterationProfileResource | WorkloadClassResource


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifests:
    """What a set of files declares."""

    fleets: tuple[InferenceFleetResource, ...] = ()
    classes: tuple[WorkloadClassResource, ...] = ()
    profiles: tuple[IterationProfileResource, ...] = ()
    others: tuple[Mapping[str, Any], ...] = field(default=())
    """Objects of other groups (Pods, Deployments, EndpointSlices, routes), as they are."""
    errors: tuple[str, ...] = ()
    """``file: Kind namespace/name: field: what is wrong``, in the API server's words."""

    def merge(self, other: Manifests) -> Manifests:
        """Both together; an object that is declared twice is an error and its first declaration stays."""
        repeated = {_key(resource) for resource in _resources(self)}
        errors = [
            f"{kind} {namespace}/{name}: declared twice"
            for kind, namespace, name in map(_key, _resources(other))
            if (kind, namespace, name) in repeated
        ]
        return Manifests(
            fleets=self.fleets + tuple(fleet for fleet in other.fleets if _key(fleet) not in repeated),
            classes=self.classes + tuple(entry for entry in other.classes if _key(entry) not in repeated),
            profiles=self.profiles + tuple(profile for profile in other.profiles if _key(profile) not in repeated),
            others=self.others + other.others,
            errors=(*self.errors, *other.errors, *errors),
        )


def parse(text: str, origin: str) -> Manifests:
    """Read every document of ``text``; ``origin`` is the file's name for messages."""
    result = Manifests()
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        return Manifests(errors=(f"{origin}: {_one_line(error)}",))
    for document in documents:
        for entry in _unlisted(document):
            result = result.merge(read(entry, origin))
    return result


def read(document: Any, origin: str) -> Manifests:
    """One document that was taken apart already, as by the API server's JSON; judged as one in a file."""
    if not isinstance(document, Mapping) or "kind" not in document or "apiVersion" not in document:
        return Manifests(errors=(f"{origin}: a document is no Kubernetes object: apiVersion and kind are required",))
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping):
        metadata = {}
    namespace = metadata.get("namespace", DEFAULT_NAMESPACE)
    if not is_ours(document):
        return Manifests(others=({**document, "metadata": {**metadata, "namespace": namespace}},))
    label = f"{origin}: {document['kind']} {namespace}/{metadata.get('name', '?')}"
    if found := problems(document):
        return Manifests(errors=tuple(f"{label}: {problem}" for problem in found))
    try:
        return _ours(document)
    except ValidationError as error:
        return Manifests(errors=tuple(f"{label}: {_location(entry)}: {entry['msg']}" for entry in error.errors()))


def _ours(document: Mapping[str, Any]) -> Manifests:
    """One resource of our group; its kind was checked before."""
    match document["kind"]:
        case FLEET.name:
            return Manifests(fleets=(InferenceFleetResource.model_validate(document),))
        case CLASS.name:
            return Manifests(classes=(WorkloadClassResource.model_validate(document),))
        case _:
            return Manifests(profiles=(IterationProfileResource.model_validate(document),))


def _unlisted(document: Any) -> Iterator[Any]:
    """The documents of a ``List``, else the document itself; empty documents vanish."""
    if isinstance(document, Mapping) and str(document.get("kind", "")).endswith("List") and "items" in document:
        yield from document["items"]
    elif document is not None:
        yield document


def _resources(manifests: Manifests) -> tuple[Resource, ...]:
    return (*manifests.fleets, *manifests.classes, *manifests.profiles)


def _key(resource: Resource) -> tuple[str, str, str]:
    return resource.kind, resource.metadata.namespace, resource.metadata.name


def _location(error: Mapping[str, Any]) -> str:
    return ".".join(str(part) for part in error["loc"])


def _one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())


class _Loader(yaml.SafeLoader):
    """Safe, without time stamps, and strict about keys that occur twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping whose keys are all different."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    "while reading a mapping", node.start_mark, f'key "{key}" occurs twice', key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(  # 2e-16 is a number to kubectl and to JSON, and a string to YAML 1.1
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
