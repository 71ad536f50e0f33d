"""What passes between a real Envoy Gateway and the gate beside the decision itself.

Answer headers to clients, claims of verified tokens, ends of answers by the access log, and rules
of a user's route. The access log is switched on with the very words of the gate's README.
"""

from __future__ import annotations

import json
import re
import textwrap
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from tests.contract.test_claims import ISSUER, SECRET, encoded, token
from tests.control.fleets import workload
from tests.control.gate_client import REPLICAS, SERVICE_PORT, Replica, Sent, ask, asked, metrics, seen
from tests.controlplane.admin import Admin
from tests.controlplane.cluster import wait_until
from tests.controlplane.envoy_gateway import NAMESPACE

from sluice.model.gate import ENDPOINT_HEADER, PLAN_HEADER, WAITED_HEADER

README = Path(__file__).resolve().parents[2] / "operator" / "sluice" / "gate" / "README.md"
ENDS_REPORTED = "sluice_gate_ends_reported"
SHARING = ("left", "right")
"""Classes that share a user's route by rules."""
TENANT = "x-tenant"
TENANTS = (
    ("a1", "alice", "alice"),
    ("a2", "alice", "alice"),
    ("a3", "alice", "alice"),
    ("a4", "alice", "somebody"),
    ("a5", "alice", "anybody"),
    ("b1", "bob", "bob"),
    ("n1", "", "alice"),
)
"""In this order: tag, whose token the request bears (empty: none), and whom its client writes into a header."""
FORGED = {WAITED_HEADER: "77777", PLAN_HEADER: "forged", ENDPOINT_HEADER: "127.0.0.1:1"}


def report_ends(admin: Admin) -> None:
    """Let Envoy tell the gate of the ends of answers, as the README says."""
    said = said_in_the_readme("telemetry")
    proxies = admin.within(NAMESPACE)
    standing = proxies.get("EnvoyProxy", "host")
    named = {"apiVersion": standing["apiVersion"], "kind": "EnvoyProxy", "metadata": {"name": "host"}}
    proxies.apply({**named, "spec": {**standing["spec"], **said}})


def said_in_the_readme(part: str) -> dict[str, Any]:
    """The gate's README on what belongs to the owner of a Gateway."""
    blocks = re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    documents = [yaml.safe_load(textwrap.dedent(one).replace("FLEET", "fleet")) for one in blocks]
    (found,) = (one for one in documents if part in one)
    return dict(json.loads(json.dumps(found).replace("NAMESPACE", "default")))


def strip(admin: Admin, replica: Replica) -> dict[str, Any]:
    """What reaches the engine of a client's forged headers while no gate is there: before, and as the README says."""
    replica.let_go()
    forged = set(FORGED.values())
    wait_until(lambda: ask("full", "probe", headers=FORGED) == 200, "requests pass")
    before = replica.plans | set(replica.named)
    admin.apply(
        {
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "ClientTrafficPolicy",
            "metadata": {"name": "edge"},
            "spec": {
                "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gateway"}],
                **said_in_the_readme("headers"),
            },
        }
    )

    def is_clean() -> bool:
        replica.plans.clear()
        replica.named.clear()
        return ask("full", "probe", headers=FORGED) == 200 and forged.isdisjoint({*replica.plans, *replica.named})

    wait_until(is_clean, "forged headers are taken out", timeout_seconds=30)
    return {"before": sorted(before & forged)}


def observe(admin: Admin, replica: Replica) -> dict[str, Any]:
    """The signals one after the other; the operator and one gate run."""
    result = {"ends": ends(replica), "headers": headers(admin, replica), "claims": claims(admin, replica)}
    return {**result, "rules": rules(admin, replica)}


def ends(replica: Replica) -> dict[str, float]:
    """Requests that are under way by the gate's books: while the engine works, and after."""
    replica.let_go()
    wait_until(_reports, "Envoy reports the ends of answers", timeout_seconds=30)
    wait_until(lambda: resident() == 0, "what came before is over")
    replica.hold()
    pool = ThreadPoolExecutor(2)
    sent = [pool.submit(ask, "full", f"end{number}") for number in range(2)]
    wait_until(lambda: replica.held == 2, "two answers are under way")
    before = resident()
    replica.let_go()
    for one in sent:
        one.result(20)
    wait_until(lambda: resident() == 0, "both are over")
    return {"during": before, "after": resident()}


def _reports() -> bool:
    return ask("full", "probe") == 200 and metrics().get(ENDS_REPORTED) == 1


def resident() -> float:
    """Requests whose answers are not over, on all engines."""
    return sum(value for name, value in metrics().items() if name.startswith("sluice_gate_engine_resident_requests"))


def headers(admin: Admin, replica: Replica) -> dict[str, Any]:
    """What clients read: one that waited, having claimed all sorts of things, and one whose patience ends."""
    replica.hold()
    pool = ThreadPoolExecutor(4)
    before = seen()
    first = [pool.submit(ask, "full", f"busy{number}") for number in range(2)]
    wait_until(lambda: replica.held == 2, "the engine is busy")
    waits = pool.submit(asked, "full", "waits", headers=FORGED)
    hurries = pool.submit(asked, "rationed", "hurries")
    wait_until(lambda: seen() >= before + 4, "the gate sees all four")
    admin.edit("WorkloadClass", "rationed", {"spec": {"patienceMilliseconds": 1}})
    answer, refused = hurries.result(40)  # less than the gate's longest wait, which would refuse it too
    admin.edit("WorkloadClass", "rationed", {"spec": {"patienceMilliseconds": 60_000}})
    replica.let_go()
    status, got = waits.result(20)
    for one in first:
        one.result(20)
    reached, placed = sorted(replica.plans), sorted(set(replica.named))
    waited = {"status": status, "got": got, "reached": reached, "placed": placed}
    return {"waited": waited, "refused": {"status": answer, "got": refused}}


def claims(admin: Admin, replica: Replica) -> dict[str, Any]:
    """Tenants by a verified claim, read where Envoy keeps it or from the header that Envoy makes of it."""
    admin.apply(verified())
    forged = bearer(token("carol", b"another secret, as long as ours"))
    replica.let_go()
    wait_until(lambda: ask("full", "probe", headers=forged) == 401, "tokens are verified", timeout_seconds=30)
    keys = {"sub": {"claim": "sub"}, TENANT: {"header": TENANT}}
    order = {name: ordered_by(admin, replica, key, name) for name, key in keys.items()}
    admin.edit("WorkloadClass", "full", {"spec": {"fairnessKey": None}})
    return {"order": order, "forged": ask("full", "probe", headers=forged)}


def ordered_by(admin: Admin, replica: Replica, key: dict[str, str], written: str) -> list[str]:
    """The order by a fairness key, after the one without; clients write the header ``written`` themselves."""
    admin.edit("WorkloadClass", "full", {"spec": {"fairnessKey": None}})
    wait_until(lambda: started(replica, written) == [tag for tag, _, _ in TENANTS], "first come first served")
    admin.edit("WorkloadClass", "full", {"spec": {"fairnessKey": key}})
    order: list[str] = []

    def is_fair_now() -> bool:
        order[:] = started(replica, written)
        return is_fair(order)

    wait_until(is_fair_now, f"the order is fair by {key}", timeout_seconds=30)
    return order


def is_fair(order: list[str]) -> bool:
    """No tenant's second request that had to wait goes before another's first, and none overtakes its own."""
    own = [tag for tag in order if tag.startswith("a")]
    return own == sorted(own) and max(order.index("b1"), order.index("n1")) < order.index("a4")


def bearer(secret: str) -> dict[str, str]:
    """The header that brings a token."""
    return {"authorization": f"Bearer {secret}"}


def started(replica: Replica, written: str) -> list[str]:
    """Who starts in which order when two fit at once."""
    replica.hold()
    pool = ThreadPoolExecutor(len(TENANTS))
    sent: list[Sent] = []
    for tag, who, claimed in TENANTS:
        before = seen()
        credentials = bearer(token(who)) if who else {}
        sent.append(pool.submit(ask, "full", tag, headers={**credentials, written: claimed}))
        wait_until(partial(_has_seen_more_than, before), "the gate sees the request")
    for count in range(3, len(TENANTS) + 1):
        replica.let_go(1)
        wait_until(partial(_has_started, replica, count), "one more prefill starts")
    order = list(replica.arrived)
    replica.let_go()
    for one in sent:
        one.result(20)
    return order


def _has_seen_more_than(before: float) -> bool:
    return seen() > before


def _has_started(replica: Replica, count: int) -> bool:
    return len(replica.arrived) == count


def verified() -> dict[str, Any]:
    """Tokens are verified where they are brought, on the route of class ``full``."""
    keys = json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "k": encoded(SECRET)}]})
    provider = {
        "name": "users",
        "issuer": ISSUER,
        "localJWKS": {"type": "Inline", "inline": keys},
        "claimToHeaders": [{"claim": "sub", "header": TENANT}],
    }
    return {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "SecurityPolicy",
        "metadata": {"name": "users"},
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "full"}],
            "jwt": {"optional": True, "providers": [provider]},
        },
    }


def rules(admin: Admin, replica: Replica) -> dict[str, float]:
    """First tokens that the gate counts by class and cluster, of two classes that share a user's route."""
    admin.apply(shared_route())
    for name in SHARING:
        declared = workload(name, 300, 10, 10, routeRef={"name": "shared", "ruleName": name})
        del declared["spec"]["match"]
        admin.apply(declared)
    replica.let_go()
    for name in SHARING:
        wait_until(partial(_is_told, name), f"requests of class {name} are told", timeout_seconds=30)
    found = metrics()
    return {name: value for name, value in found.items() if name.startswith(_FIRST_TOKENS) and "shared" in name}


_FIRST_TOKENS = "sluice_gate_ttft_seconds_count"


def _is_told(name: str) -> bool:
    wanted = f'{_FIRST_TOKENS}{{class="{name}"'
    return ask(name, "probe") == 200 and any(key.startswith(wanted) for key in metrics())


def shared_route() -> dict[str, Any]:
    """A user's HTTPRoute; the first of its rules is nobody's."""
    backend = {"name": REPLICAS, "port": SERVICE_PORT, "weight": 1}
    rules = [
        {
            "name": name,
            "matches": [{"headers": [{"type": "Exact", "name": "x-model", "value": name}]}],
            "backendRefs": [backend],
        }
        for name in ("nobody", *SHARING)
    ]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "shared"},
        "spec": {"parentRefs": [{"name": "gateway"}], "rules": rules},
    }
