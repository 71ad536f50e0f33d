"""What all resource models share: wire names, CEL rules and field types.

A rule is declared once, beside the model it guards: ``sluice.api.schema`` writes it into
the CRD for the API server, ``sluice.api.validate`` evaluates the same text offline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, field_validator
from pydantic.alias_generators import to_camel

RULES_KEY: Final = "x-kubernetes-validations"

HEADER_PATTERN: Final = r"^[A-Za-z0-9!#$%&'*+.^_|~-]+$"
"""A header's name."""
LABEL_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
"""RFC 1123 label: names of pools, which become parts of cluster and metric names."""
SUBDOMAIN_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""RFC 1123 subdomain: names of Kubernetes objects."""
MONEY_PATTERN: Final = r"^[0-9]{1,9}(\.[0-9]{1,9})?$"
MONEY_MAX_LENGTH: Final = 19


@dataclass(frozen=True, slots=True)
class Rule:
    """One CEL rule over an object, and what a user is told when it does not hold."""

    expression: str
    message: str


def _add_rules(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Write the model's rules into its JSON schema."""
    rules: tuple[Rule, ...] = getattr(model, "rules", ())
    if rules:
        schema[RULES_KEY] = [{"rule": rule.expression, "message": rule.message} for rule in rules]


class Declared(BaseModel):
    """A part of a spec: frozen, camelCase on the wire, closed to unknown fields."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        json_schema_extra=_add_rules,
    )
    rules: ClassVar[tuple[Rule, ...]] = ()


class Reported(BaseModel):
    """A part of a status: frozen, camelCase on the wire; fields of later versions are ignored."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )


class ObjectMeta(BaseModel):
    """The part of ``metadata`` that we read; the API server owns the rest."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    creation_timestamp: str = ""


class Resource(Reported):
    """What the three kinds share. A status that cannot be read counts as none: our own past must not stop us."""

    metadata: ObjectMeta

    @field_validator("status", mode="wrap", check_fields=False)
    @classmethod
    def _forgive_status(cls, value: object, read: ValidatorFunctionWrapHandler) -> object:
        try:
            return read(value)
        except ValidationError:
            return read({})


class NamedReference(Declared):
    """An object of the same namespace, by name."""

    name: Annotated[
        str, Field(min_length=1, max_length=253, pattern=SUBDOMAIN_PATTERN, description="Name of the object.")
    ]


def list_map(*keys: str) -> dict[str, Any]:
    """Schema marks of a list whose entries are told apart by ``keys`` (server-side apply merges per entry)."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def list_set() -> dict[str, Any]:
    """Schema marks of a list without repeats."""
    return {"x-kubernetes-list-type": "set"}
