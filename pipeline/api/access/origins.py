"""Which page a browser's call comes from, and who a trusted proxy says that its user is.

A browser lends whatever it may do (an open port on loopback, a proxy's cookie) to every page it shows. Three of its
ways are closed here. A name that an attacker points to 127.0.0.1 makes his page one of ours: if no key is needed,
Host must be an address or a name that is known. A page of elsewhere can ask, though it can't read: what a browser says
of its origin must be ours. And it can post a form: what changes anything is JSON with a header of its own, which a
browser sends for another site only after asking for permission, and none is ever given. An event that needs no key
needs no such header: it may come from any program, and from no other site's page. A read of such a page may carry no
sign that a browser makes it, so that on loopback a read without a key must have a known Host, whoever makes it.
"""

import ipaddress
from collections.abc import Iterable
from typing import Final

from pipeline.api.http.heads import Head
from pipeline.api.http.replies import Refusal
from pipeline.config import Settings
from pipeline.errors import ConfigurationError

REQUESTED_BY: Final = "X-Requested-By"
PAGE: Final = "console"
"""What the page says in that header."""

_OWN: Final = frozenset({b"", b"same-origin", b"none"})
_SHOWN: Final = 100
_MOST_IDENTITY: Final = 200
_REMEMBERED: Final = 1_000

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Origins:
    """The names under which the console is reached, and the proxies whose word on a user is taken."""

    def __init__(
        self, names: Iterable[str], identity_header: str = "", proxies: Iterable[Network] = (), own: str = "localhost"
    ) -> None:
        """Take the names, each with its port if a browser shows one, and the host that is listened on."""
        self._authorities = frozenset(name.lower() for name in names)
        self._names = frozenset(map(_name, {*self._authorities, own}))
        self._met = set[bytes]()  # of Host, as it came: what is known
        self._identity = identity_header.lower().encode("latin-1")
        self._proxies = tuple(proxies)

    def check(self, head: Head, *, keyless: bool, changes: bool) -> None:
        """Raise Refusal (403, 415) for a call of another site's page; `keyless` if nobody needs a key."""
        if keyless:
            self.check_host(head)
        self.check_site(head)
        if changes:
            self._check_change(head)

    def check_host(self, head: Head) -> None:
        """Raise Refusal (403) for a call by a name that somebody else may have pointed here."""
        given = head.headers.get(b"host", b"")
        if given in self._met:
            return
        host = given.decode("latin-1")
        if not self._known(_name(host)):
            raise Refusal(403, f"Host: {host[:_SHOWN]} is not known here; CONSOLE_HOSTS lists the names that are")
        if len(self._met) >= _REMEMBERED:
            self._met.clear()
        self._met.add(given)

    def check_site(self, head: Head) -> None:
        """Raise Refusal (403) for a call that a browser makes for another site's page."""
        if head.headers.get(b"sec-fetch-site", b"") not in _OWN:
            raise Refusal(403, "Sec-Fetch-Site: only the console's own page may ask this")
        origin = head.headers.get(b"origin", b"").decode("latin-1")
        if origin and not self._ours(origin, head.headers.get(b"host", b"").decode("latin-1")):
            raise Refusal(403, f"Origin: {origin[:_SHOWN]} is not this console's")

    def identity(self, head: Head, peer: str) -> str:
        """Return who a trusted proxy says is asking; nothing if none is set up, or the peer is no such proxy."""
        said = head.headers.get(self._identity, b"").decode("utf-8", "replace").strip() if self._identity else ""
        if not said or not self._trusted(peer):
            return ""
        return "".join(char if char.isprintable() else "\ufffd" for char in said)[:_MOST_IDENTITY]

    def _check_change(self, head: Head) -> None:
        if head.media_type != "application/json":
            raise Refusal(415, "Content-Type must be application/json")
        if head.headers.get(REQUESTED_BY.lower().encode(), b"") != PAGE.encode():
            raise Refusal(403, f"{REQUESTED_BY}: must be {PAGE}: no other site's page can say so")

    def _known(self, name: str) -> bool:
        """Whether a name can be nobody else's: an address, or what is configured; `localhost` no browser looks up."""
        return name == "localhost" or name in self._names or _is_address(name)

    def _ours(self, origin: str, host: str) -> bool:
        scheme, separator, authority = origin.lower().partition("://")
        if not separator or scheme not in {"http", "https"}:
            return False
        return authority == host.lower() or authority in self._authorities

    def _trusted(self, peer: str) -> bool:
        return _is_address(peer) and any(ipaddress.ip_address(peer) in network for network in self._proxies)


def configured_origins(settings: Settings) -> Origins:
    """Read the settings. Raises ConfigurationError."""
    proxies = []
    for entry in _listed(settings.console_trusted_proxies):
        try:
            proxies.append(ipaddress.ip_network(entry))
        except ValueError as error:
            raise ConfigurationError(f"CONSOLE_TRUSTED_PROXIES: {error}") from None
    return Origins(_listed(settings.console_hosts), settings.console_identity_header, proxies, settings.host)


def _listed(text: str) -> list[str]:
    return [entry for entry in map(str.strip, text.split(",")) if entry]


def _name(authority: str) -> str:
    """Return an authority's host, without its port."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.lower().partition(":")[0].removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
