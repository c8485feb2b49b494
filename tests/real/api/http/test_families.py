"""The API over IPv4 and IPv6: one value of HOST serves both, health and metrics too."""

import http.client
import socket

import pytest

from tests.edges import running_edge
from tests.place import Place

pytestmark = pytest.mark.real


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_one_address_serves_both_families(place: Place) -> None:
    with running_edge(place, HOST="::", API_OPEN="true") as edge:
        for host in ("127.0.0.1", "::1"):
            assert asked(host, edge.port, "/health/ready") == 200
            assert asked(host, edge.metrics_port, "/health/ready") == 200
            assert asked(host, edge.metrics_port, "/metrics") == 200


def asked(host: str, port: int, path: str) -> int:
    connection = http.client.HTTPConnection(host, port, timeout=20)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()
