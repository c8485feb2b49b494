"""A private authority, and the certificates that it makes for servers and clients."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

HOST = "127.0.0.1"
"""Servers are certified for this address; whoever calls them "localhost" has the wrong name."""

_LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Pair:
    """Files of a certificate and its key, and of both as one, as Kafka wants them."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """Makes certificates under a directory; `file` is its own, which others trust."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._ca = trustme.CA()
        self.file = directory / "authority.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def pair(self, name: str, *, expired: bool = False, password: str = "") -> Pair:
        """Make a certificate for HOST, whose common name is `name`."""
        made = self._ca.issue_cert(
            HOST,
            common_name=name,
            not_before=_LONG_AGO,
            not_after=_LONG_AGO + dt.timedelta(days=90) if expired else None,
        )
        chain = b"".join(one.bytes() for one in made.cert_chain_pems)
        how = BestAvailableEncryption(password.encode()) if password else NoEncryption()
        key = load_pem_private_key(made.private_key_pem.bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, how
        )
        home = self._directory / (f"{name}-expired" if expired else name)
        home.mkdir()
        pair = Pair(home / "certificate.pem", home / "key.pem", home / "both.pem")
        pair.certificate.write_bytes(chain)
        pair.both.write_bytes(key + chain)
        pair.key.write_bytes(key)
        for file in (pair.key, pair.both):
            file.chmod(0o600)
        return pair
