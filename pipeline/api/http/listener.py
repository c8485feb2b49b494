"""The listening sockets of one application, and what their connections share."""

import asyncio
import socket
import time
from email.utils import formatdate

from pipeline.api.http.connection import Application, Connection, Patience
from pipeline.api.http.heads import Heads
from pipeline.tasks import cancel, watched


def listening(host: str, port: int) -> socket.socket:
    """Bind an address; `::` is every address of both families, or of IPv4 if there is no other. Raises OSError."""
    if host == "::" and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"  # noqa: S104 - what was asked for
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    (address, *_) = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return socket.create_server(address[4], family=family, backlog=4096, dualstack_ipv6=host == "::")


class Listener:
    """Accepts connections for an application, sweeps away those that stall, and drains at the end."""

    def __init__(self, application: Application, *, connections: int, arriving_bytes: int, patience: Patience) -> None:
        self.application = application
        self.heads = Heads()
        self.patience = patience
        self.clock = time.monotonic()
        self.dated = b""
        self.draining = False
        self._limit = connections
        self._room = arriving_bytes
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._connections)

    async def listen(self, host: str, port: int) -> int:
        """Start to accept; return the port. Raises OSError."""
        self._tell_time()
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self), sock=listening(host, port), backlog=4096
        )
        self._sweeping = watched(self._sweep())
        return int(self._server.sockets[0].getsockname()[1])

    async def drain(self, within: float) -> None:
        """Stop accepting, let each connection have the reply it waits for, then cut those that are left."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.drain()
        deadline = time.monotonic() + within
        while self._connections and time.monotonic() < deadline:  # noqa: ASYNC110 (once, at the end)
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.abort()
        if self._sweeping is not None:
            await cancel(self._sweeping)

    # -- for connections ---------------------------------------------------------------------------------------------

    def opened(self, connection: Connection) -> bool:
        """Count a connection in; False when there are too many."""
        self._connections.add(connection)
        return len(self._connections) <= self._limit

    def closed(self, connection: Connection) -> None:
        """Count a connection out."""
        self._connections.discard(connection)

    def reserve(self, size: int) -> bool:
        """Take `size` bytes of the memory for bodies that are still arriving; False when there is none left."""
        if size > self._room:
            return False
        self._room -= size
        return True

    def release(self, size: int) -> None:
        """Give bytes back."""
        self._room += size

    # -- time --------------------------------------------------------------------------------------------------------

    def _tell_time(self) -> None:
        self.clock = time.monotonic()
        self.dated = f"\r\nDate: {formatdate(usegmt=True)}\r\n".encode("ascii")

    async def _sweep(self) -> None:
        """Each second, tell the time to the connections, and end those that stall."""
        while True:
            self._tell_time()
            for connection in list(self._connections):
                connection.sweep(self.clock)
            await asyncio.sleep(1.0)
