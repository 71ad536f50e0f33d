"""By which value some of a class's requests belong together: a header, or a claim of a verified token.

A claim is what Envoy's jwt_authn filter found in a token whose signature it has checked, and
keeps as dynamic metadata under the name of the provider. A client cannot forge it.

Reference: https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/jwt_authn_filter
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.struct_pb2 import Struct, Value

from sluice.model.gate import CLAIMS_NAMESPACE

LONGEST_KEY = 128
"""Characters kept of anything that a client may choose."""
_DIGEST_BYTES = 16


def bounded(text: str) -> str:
    """``text``, or where it is longer than is kept its beginning and a digest of all of it.

    Cutting alone would not do: tokens of many tenants begin alike.
    """
    if len(text) <= LONGEST_KEY:
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()
    return text[: LONGEST_KEY - len(digest)] + digest


@dataclass(frozen=True, slots=True)
class KeySource:
    """Exactly one of both."""

    header: str | None = None
    """Lower case."""
    claim: tuple[str, ...] = ()
    """From the outermost to the innermost name."""

    @classmethod
    def of(cls, header: str | None, claim: str | None) -> KeySource | None:
        """The source that a class declares; None where it declares none."""
        if header:
            return cls(header=header.lower())
        return cls(claim=tuple(claim.split("."))) if claim else None

    def read(self, headers: Mapping[str, str], metadata: Mapping[str, Struct]) -> str:
        """The key of a request; empty where it has none."""
        found = headers.get(self.header, "") if self.header else _claim(metadata, self.claim)
        return bounded(found)


def _claim(metadata: Mapping[str, Struct], path: tuple[str, ...]) -> str:
    """The first provider's claim, as text."""
    if CLAIMS_NAMESPACE not in metadata:
        return ""
    for payload in metadata[CLAIMS_NAMESPACE].fields.values():
        value = payload
        for name in path:
            fields = value.struct_value.fields
            if name not in fields:
                break
            value = fields[name]
        else:
            return _text(value)
    return ""


def _text(value: Value) -> str:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return str(value.string_value)
    if kind == "number_value":
        return f"{value.number_value:.15g}"
    if kind == "list_value":  # such as aud
        return ",".join(_text(one) for one in value.list_value.values)
    return str(value.bool_value).lower() if kind == "bool_value" else ""
