"""What the API server would say to a document, said offline with the same words.

One corpus of bad objects (``tests/corpus/bad``) holds both to the same messages. The
server puts ``Kind.group "name" is invalid:`` before them; that is left to the reader.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from sluice.api.base import LABEL_PATTERN, SUBDOMAIN_PATTERN
from sluice.api.resources import API_VERSION, KINDS
from sluice.api.rules import broken
from sluice.api.schema import structural
from sluice.api.structural import NOT_CHECKED, Problem, completed, repeats, type_name, unknown_fields, violations
from sluice.model.naming import GROUP

_LABEL_LENGTH: Final = 63
_LABEL_WORDS: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_WORDS: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


def is_ours(document: Mapping[str, Any]) -> bool:
    """Whether the document claims to be of our group."""
    return str(document.get("apiVersion", "")).partition("/")[0] == GROUP


def problems(document: Mapping[str, Any]) -> list[str]:
    """What the API server would refuse in ``document``; empty when it is fine or not of our group."""
    if not is_ours(document):
        return []
    kind, version = document.get("kind"), document["apiVersion"]
    if kind not in KINDS or version != API_VERSION:
        return [f'no matches for kind "{kind}" in version "{version}"']
    schema = structural(kind)
    if unknown := sorted(unknown_fields(document, schema)):
        return [f'unknown field "{path}"' for path in unknown]
    return [problem.text for problem in _problems(document, schema)]


def _problems(document: Mapping[str, Any], schema: Mapping[str, Any]) -> list[Problem]:
    whole = {**schema, "properties": {name: schema["properties"][name] for name in ("spec", "status")}}
    value = completed({name: document.get(name) for name in ("spec", "status")}, whole)
    found = [*_metadata(document), *violations(value, whole, ""), *repeats(value, whole, "")]
    if any(problem.blocks_rules for problem in found):
        return [*found, Problem(NOT_CHECKED)]
    return [*found, *broken(value["spec"], whole["properties"]["spec"], "spec")]


def _metadata(document: Mapping[str, Any]) -> list[Problem]:
    """The checks of an object's name, and of its namespace in the words for the name of a namespace."""
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if name is None:
        return [Problem("metadata.name: Required value: name or generateName is required", blocks_rules=True)]
    if not isinstance(name, str):
        said = type_name(name)
        words = f'metadata.name: Invalid value: "{said}": metadata.name in body must be of type string: "{said}"'
        return [Problem(words, blocks_rules=True)]
    found = []
    if not re.search(SUBDOMAIN_PATTERN, name):
        found.append(Problem(f'metadata.name: Invalid value: "{name}": {_SUBDOMAIN_WORDS}'))
    namespace = metadata.get("namespace", "default") if isinstance(metadata, Mapping) else "default"
    if len(str(namespace)) > _LABEL_LENGTH or not re.fullmatch(LABEL_PATTERN, str(namespace)):
        found.append(Problem(f'metadata.namespace: Invalid value: "{namespace}": {_LABEL_WORDS}'))
    bound = structural(str(document["kind"]))["properties"]["metadata"]["properties"]["name"]
    return [*found, *violations(name, bound, "metadata.name")]
