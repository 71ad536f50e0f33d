"""A claim that a real Envoy verified is a request's key; what a client merely writes is none."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from tests.contract import gate_world
from tests.contract.gate_world import until, world

SECRET = b"a secret of sixteen bytes or more"
ISSUER = "https://issuer.test"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(subject: str, secret: bytes = SECRET) -> str:
    """A token that is signed, but not more than a test needs."""
    head = encoded(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    body = encoded(json.dumps({"iss": ISSUER, "sub": subject}).encode())
    signature = hmac.new(secret, f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{encoded(signature)}"


def verifying(write: Any) -> Any:
    """What writes Envoy's files, with a filter before ours that verifies tokens, as a user may have one."""

    def written(folder: Path) -> Path:
        path = Path(write(folder))
        document = json.loads(path.read_text())
        (listener,) = document["static_resources"]["listeners"]
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        keys = json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "k": encoded(SECRET)}]})
        provider = {"issuer": ISSUER, "local_jwks": {"inline_string": keys}, "payload_in_metadata": "users"}
        wanted = {"requires_any": {"requirements": [{"provider_name": "users"}, {"allow_missing": {}}]}}
        manager["http_filters"].insert(
            0,
            {
                "name": "envoy.filters.http.jwt_authn",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
                    "providers": {"users": provider},
                    "rules": [{"match": {"prefix": "/"}, "requires": wanted}],
                },
            },
        )
        path.write_text(json.dumps(document))
        return path

    return written


async def test_a_verified_claim_keeps_a_client_on_its_replica(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_world, "write_envoy_files", verifying(gate_world.write_envoy_files))
    classes: dict[str, dict[str, Any]] = {"chat": {"affinityKey": {"claim": "sub"}}}
    async with world(tmp_path / "world", classes, replicas=3, options=["--placement"]) as one:
        for subject in ("alice", "bob", "alice", "bob", "alice"):
            reply = await one.ask("chat", headers={"authorization": f"Bearer {token(subject)}"})
            assert reply.status == 200
        assert (await one.ask("chat", headers={"sub": "alice"})).status == 200
        forged = await one.ask(
            "chat", headers={"authorization": f"Bearer {token('alice', b'another secret, as long')}"}
        )
        assert forged.status == 401

        async def served(where: str) -> float:
            labels = f'class="chat",placed="true",served="{where}"'
            return await one.value(f"sluice_gate_affinity_requests_total{{{labels}}}")

        async def counted() -> bool:
            return await served("First") + await served("Same") == 5

        await until("five requests bore a key", counted)
        assert (await served("First"), await served("Other")) == (2, 0)
