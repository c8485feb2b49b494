"""One server of each kind that speaks TLS, for all the tests of it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.secure import Secure
from tests.tls_servers import TlsKafka, TlsPostgres, TlsRedis, tls_kafka, tls_postgres, tls_redis


@pytest.fixture(scope="package")
def secure() -> Iterator[Secure]:
    with tempfile.TemporaryDirectory(prefix="gamemetrics-tls-") as name:
        directory = Path(name)
        directory.chmod(0o711)  # PostgreSQL runs as another account, and passes through
        authority, stranger = Authority(directory / "ours"), Authority(directory / "strange")
        yield Secure(directory, authority, stranger, authority.pair("gamemetrics", password="sesame"))


@pytest.fixture(scope="package")
def kafka(secure: Secure) -> Iterator[TlsKafka]:
    with tls_kafka(secure.directory, secure.authority) as server:
        yield server


@pytest.fixture(scope="package")
def postgres(secure: Secure) -> Iterator[TlsPostgres]:
    with tls_postgres(secure.directory, secure.authority) as server:
        yield server


@pytest.fixture(scope="package")
def redis(secure: Secure) -> Iterator[TlsRedis]:
    with tls_redis(secure.directory, secure.authority) as server:
        yield server
