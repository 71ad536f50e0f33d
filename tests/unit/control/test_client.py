"""The client of the API server on a server that does not answer."""

from __future__ import annotations

import socket
import threading

import kubernetes
import pytest

from sluice.actuate import kubernetes_api
from sluice.control.cluster.client import Cluster, Unreachable
from sluice.control.cluster.kinds import PODS


def test_a_silent_server_is_asked_twice_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_api, "TIMEOUT_SECONDS", (1.0, 0.2))
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    kept.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        host = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(Unreachable):
            Cluster(kubernetes.client.Configuration(host=host)).get(PODS, "default", "chat")
        server.shutdown(socket.SHUT_RDWR)
    assert len(kept) == 2
    for connection in kept:
        connection.close()
