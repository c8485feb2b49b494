"""TLS as every server of the pipeline meets it: whose certificates we trust, who we are, and why a handshake fails.

The clients say that a certificate could not be verified and leave open why, or they see a connection that ends. So once
one of them failed, `fault` shakes hands itself, and tells the reason with the setting that mends it.
"""

import re
import socket
import ssl
import struct
from dataclasses import dataclass
from typing import Final

from pipeline.errors import ConfigurationError

_TIMEOUT_SECONDS: Final = 3.0
_ALERT_SECONDS: Final = 2.0
"""In TLS 1.3 a server tells what it thinks of our certificate after the handshake, and otherwise nothing."""

POSTGRES_GREETING: Final = struct.pack("!ii", 8, 80877103)
"""PostgreSQL's SSLRequest: it answers "S" if it speaks TLS."""

_NOT_YET_VALID, _EXPIRED, _WRONG_NAME, _WRONG_ADDRESS = 9, 10, 62, 64
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})
"""OpenSSL's X509_V_ERR_...: a chain that does not end at an authority that is trusted."""

_OF_OURS: Final = re.compile(r"ALERT_(\w*CERTIFICATE\w*|UNKNOWN_CA|HANDSHAKE_FAILURE|ACCESS_DENIED|DECRYPT_ERROR)")
"""Alerts by which a server refuses the certificate that it was given, or was not."""


@dataclass(frozen=True, slots=True)
class Names:
    """The settings of one server: where it is, whom we trust, and who we are."""

    address: str
    mode: str
    authority: str
    certificate: str
    key: str
    password: str


KAFKA: Final = Names(
    "KAFKA_BOOTSTRAP_SERVERS",
    "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_SSL_CA_LOCATION",
    "KAFKA_SSL_CERTIFICATE_LOCATION",
    "KAFKA_SSL_KEY_LOCATION",
    "KAFKA_SSL_KEY_PASSWORD",
)
POSTGRES: Final = Names("DB_HOST", "DB_SSLMODE", "DB_SSLROOTCERT", "DB_SSLCERT", "DB_SSLKEY", "DB_SSLPASSWORD")
REDIS: Final = Names(
    "REDIS_HOST", "REDIS_TLS", "REDIS_SSL_CA_CERTS", "REDIS_SSL_CERTFILE", "REDIS_SSL_KEYFILE", "REDIS_SSL_PASSWORD"
)
EVERY: Final = (KAFKA, POSTGRES, REDIS)


@dataclass(frozen=True, slots=True)
class Files:
    """PEM files by path, and the password of the key; empty: the system's authorities, no certificate, no password.

    `verified` is whether the server's certificate must be from the authority, `named` whether it must be for its name.
    """

    names: Names
    authority: str = ""
    certificate: str = ""
    key: str = ""
    password: str = ""
    verified: bool = True
    named: bool = True

    def context(self) -> ssl.SSLContext:
        """Read the files. Raises ConfigurationError with the setting whose file is no use."""
        context = ssl.create_default_context()
        context.check_hostname = self.named and self.verified
        context.verify_mode = ssl.CERT_REQUIRED if self.verified else ssl.CERT_NONE
        if self.authority and self.authority != "system":
            context = _trusting(context, self.authority, self.names.authority)
        if bool(self.certificate) != bool(self.key):
            lacking = self.names.key if self.certificate else self.names.certificate
            raise ConfigurationError(f"{lacking}: a certificate and its key are given together")
        if self.certificate:
            self._identify(context)
        return context

    def _identify(self, context: ssl.SSLContext) -> None:
        names = f"{self.names.certificate}, {self.names.key}"
        try:
            # Never by asking: a key with a password would wait at the terminal.
            context.load_cert_chain(self.certificate, self.key, lambda: self.password)
        except ssl.SSLError as error:
            raise ConfigurationError(
                f"{names}, {self.names.password}: {self.certificate} and {self.key} are no certificate in PEM with its "
                f"key: {_said(error)}"
            ) from error
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{names}: {self.certificate}, {self.key}: {_said(error)}") from error


def _trusting(context: ssl.SSLContext, authority: str, name: str) -> ssl.SSLContext:
    """Return a context that trusts this authority and no other."""
    only = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    only.check_hostname, only.verify_mode = context.check_hostname, context.verify_mode
    try:
        only.load_verify_locations(authority)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigurationError(f"{name}: {authority}: no certificates in PEM: {_said(error)}") from error
    return only


def fault(files: Files, host: str, port: int, greeting: bytes = b"") -> str:
    """Shake hands with a server; return what is wrong with the certificates of either side, and which setting says so.

    Empty: nothing is, or it cannot be asked now. Takes some seconds at most, and blocks.
    """
    where = f"{host}:{port}"
    try:
        context = files.context()
        with socket.create_connection((host, port), _TIMEOUT_SECONDS) as plain:
            if greeting:
                plain.sendall(greeting)
                if plain.recv(1) == b"N":
                    return f"{files.names.mode}: {where} does not speak TLS"
            with context.wrap_socket(plain, server_hostname=host) as wire:
                wire.settimeout(_ALERT_SECONDS)
                wire.recv(1)
    except ConfigurationError as error:
        return str(error)
    except ssl.SSLError as error:
        return reason(files, where, error)
    except (OSError, ValueError):
        return ""
    return ""


def reason(files: Files, where: str, error: ssl.SSLError) -> str:
    """Say what an error of the handshake means, with the setting and what to do; empty if nobody knows."""
    names, said = files.names, _said(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return _unverified(names, where, error.verify_code, error.verify_message)
    if "WRONG_VERSION_NUMBER" in said or "RECORD_LAYER_FAILURE" in said or "HTTP_REQUEST" in said:
        return f"{names.mode}, {names.address}: {where} does not speak TLS: {said}"
    if not _OF_OURS.search(said):
        return ""
    ours = f"{names.certificate}, {names.key}"
    if not files.certificate:
        return f"{ours}: {where} wants a certificate of ours, and none is given: {said}"
    return f"{ours}: {where} refuses our certificate; have one made by the authority that it trusts: {said}"


def _unverified(names: Names, where: str, code: int, said: str) -> str:
    if code == _EXPIRED:
        return f"{names.address}: the certificate of {where} has expired: have it renewed there ({said})"
    if code == _NOT_YET_VALID:
        return f"{names.address}: the certificate of {where} is not valid yet: see to the clocks of both ({said})"
    if code in {_WRONG_NAME, _WRONG_ADDRESS}:
        return (
            f"{names.address}: the certificate of {where} is for another name: use that, or have it made anew ({said})"
        )
    if code in _UNKNOWN_AUTHORITY:
        return (
            f"{names.authority}: the certificate of {where} is from an authority that is not trusted: "
            f"give the file of that authority's certificate ({said})"
        )
    return f"{names.authority}, {names.address}: the certificate of {where} is refused: {said}"


def handshake_error(error: BaseException) -> ssl.SSLError | None:
    """Return the error of a handshake on which a client's own error rests."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, ssl.SSLError):
        seen = seen.__cause__ or seen.__context__
    return seen


def _said(error: Exception) -> str:
    return str(error.strerror or error) if isinstance(error, OSError) else str(error)
