"""A TCP proxy that breaks the wire where a test says: an answer that never comes, half a request, a delay, a reset."""

import contextlib
import ctypes
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

HOST = "127.0.0.1"
Fault = Literal["lose the answer", "cut the request", "delay the answer"]
DELAY_SECONDS = 2.0
CALL = b"\r\ngamemetrics_apply\r\n"
"""What every call of the function holds, as an argument; loading it, and asking for the account's rights, do not."""

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0), 8)
"""A filter of one instruction: of each packet keep 0 bytes (Linux; see socket(7))."""


@dataclass(slots=True)
class Rule:
    """What to do to the next requests that match."""

    fault: Fault
    matches: Callable[[bytes], bool]
    left: int
    met: int = 0


@dataclass(slots=True)
class Pair:
    """A client's connection and the one made for it."""

    client: socket.socket
    server: socket.socket
    deaf: bool = False
    late: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        """Close both ends as a crashed host does: RST, no FIN."""
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Proxy:
    """Stands between clients and one server on loopback; `told`: bytes in its answers, and as many in their place."""

    def __init__(self, server_port: int, *, kafka: bool = False, told: tuple[bytes, bytes] | None = None) -> None:
        self._server_port = server_port
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._told = (_advertised(server_port), _advertised(self.port)) if kafka else told
        self._rules: list[Rule] = []
        self._pairs: list[Pair] = []
        self.accepted = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def rule(self, fault: Fault, matches: bytes | Callable[[bytes], bool], times: int = 1) -> Rule:
        """Break the next `times` requests that hold these bytes, or of which the function says so."""
        found = matches if callable(matches) else lambda request, pattern=matches: pattern in request
        rule = Rule(fault, found, times)
        with self._lock:
            self._rules.append(rule)
        return rule

    def redirect(self, server_port: int) -> None:
        """Lead new connections to another server, as a name does after a failover; those that stand stay."""
        self._server_port = server_port

    def vanish(self) -> None:
        """Drop every packet that clients send, without a word, as a host does that lost its power or its network."""
        for end in self._clients():
            end.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(_DROP_ALL)))

    def reappear(self) -> None:
        """Let packets through again."""
        for end in self._clients():
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)

    def standing(self) -> frozenset[int]:
        """Return the clients' own ports of the connections that stand."""
        ports = set[int]()
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            with contextlib.suppress(OSError):
                ports.add(pair.client.getpeername()[1])
        return frozenset(ports)

    def _clients(self) -> list[socket.socket]:
        with self._lock:
            return [self._listener, *(pair.client for pair in self._pairs if pair.client.fileno() >= 0)]

    def reset(self) -> int:
        """Reset every connection; returns how many there were."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            pair.reset()
        return len(pairs)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection((HOST, self._server_port), timeout=5)
            except OSError:
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = Pair(client, server)
            with self._lock:
                self._pairs.append(pair)
                self.accepted += 1
            self._start(self._requests, pair)
            self._start(self._answers, pair)

    def _requests(self, pair: Pair) -> None:
        with contextlib.suppress(OSError):
            while data := pair.client.recv(1 << 16):
                rule = self._met(data)
                if rule is not None and rule.fault == "cut the request":
                    pair.server.sendall(data[: len(data) // 2])
                    break
                if rule is not None:
                    pair.deaf, pair.late = rule.fault == "lose the answer", rule.fault == "delay the answer"
                pair.server.sendall(data)
        pair.reset()

    def _answers(self, pair: Pair) -> None:
        with contextlib.suppress(OSError):
            while data := pair.server.recv(1 << 16):
                if pair.deaf:
                    break
                if pair.late:
                    self._closed.wait(DELAY_SECONDS)
                    pair.late = False
                pair.client.sendall(data if self._told is None else data.replace(*self._told))
        pair.reset()

    def _met(self, request: bytes) -> Rule | None:
        with self._lock:
            for rule in self._rules:
                if rule.left and rule.matches(request):
                    rule.left -= 1
                    rule.met += 1
                    return rule
        return None


def _advertised(port: int) -> bytes:
    """How a broker's address stands in Kafka's answers: clients are led back to the proxy by its own."""
    return HOST.encode() + struct.pack(">i", port)
