"""The ceiling: uvloop and httptools, and nothing else. `python -m bench.ingest_bare PORT`."""

import asyncio
import sys
from typing import cast

import httptools
import uvloop

_BODY = b'{"status":"success","event_id":"550e8400-e29b-41d4-a716-446655440000"}\n'
_REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_BODY) + _BODY


class Bare(asyncio.Protocol):
    """Parses every request whole and gives each the same reply."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived."""
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, as any server must."""

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""

    def on_message_complete(self) -> None:
        """Reply."""
        self._transport.write(_REPLY)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
