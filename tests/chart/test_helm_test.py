"""``helm test``: the pod that the chart declares for it, and what its program says to each answer."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

Render = Callable[..., list[dict[str, Any]]]


def hook(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [one for one in objects if "helm.sh/hook" in one["metadata"].get("annotations", {})]
    return found


@contextmanager
def answering(status: int, text: str) -> Iterator[str]:
    """An operator's probes, which say this."""

    class Probes(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Probes) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def run(pod: dict[str, Any], url: str) -> subprocess.CompletedProcess[str]:
    """The pod's own program, against another address."""
    (container,) = pod["spec"]["containers"]
    assert container["command"] == ["python", "-c"]
    command = [sys.executable, "-c", *container["args"]]
    return subprocess.run(command, env={"OPERATOR_URL": url}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("status", "text", "passes"),
    [
        pytest.param(200, "2 fleets\n", True, id="ready"),
        pytest.param(503, "first pass not complete: ml/llama\n", False, id="a fleet has had no pass yet"),
    ],
)
def test_the_operators_readiness_decides(render: Render, status: int, text: str, passes: bool) -> None:
    with answering(status, text) as url:
        done = run(hook(render()), url)
    assert (done.returncode == 0) is passes
    assert text.strip() in done.stdout + done.stderr


def test_an_operator_that_does_not_answer_fails_it(render: Render) -> None:
    done = run(hook(render()), "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "does not answer" in done.stderr


def test_it_asks_the_service_and_is_no_part_of_it(render: Render) -> None:
    objects = render("http.port=9090")
    pod, (service,) = hook(objects), [one for one in objects if one["kind"] == "Service"]
    (url,) = [entry["value"] for entry in pod["spec"]["containers"][0]["env"]]
    metadata, (port,) = service["metadata"], service["spec"]["ports"]
    assert url == f"http://{metadata['name']}.{metadata['namespace']}:{port['port']}"
    assert not service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()


def test_it_is_restricted_and_bears_no_token(render: Render) -> None:
    spec = hook(render())["spec"]
    (container,) = spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
