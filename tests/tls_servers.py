"""Kafka, PostgreSQL and Redis that speak TLS, beside the stack's own, which do not.

Kafka is the embedded one with listeners more. The wheels of PostgreSQL and Valkey are built without TLS, so the other
two are Debian's. Each answers with the certificate that a test gives it, while it runs.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import redis
from psycopg.conninfo import make_conninfo
from redis.backoff import NoBackoff
from redis.retry import Retry

from pipeline.local.account import unprivileged_account
from pipeline.local.kafka import Kafka
from pipeline.local.kafka_access import USER
from pipeline.local.state import State
from tests.authority import HOST, Authority, Pair
from tests.debian import Unpacked, flavour, redis_server, running, unpacked
from tests.edges import free_port
from tests.waiting import eventually

ACCOUNT, PASSWORD = "gamemetrics", "not for the world"
POSTGRESQL = ("postgresql-15",)


class TlsKafka(Kafka):
    """With a listener for passwords over TLS, the same with a certificate that expired, and one for certificates."""

    def __init__(self, state: State, authority: Authority) -> None:
        super().__init__(state)
        self._authority = authority
        self.certificate = shutil.copy(authority.pair("kafka").both, state.directory / "kafka.pem")
        expired = authority.pair("kafka", expired=True).both
        self.listening = {name: free_port() for name in ("TLS", "EXPIRED", "MUTUAL")}
        self._keys = {"TLS": self.certificate, "EXPIRED": expired, "MUTUAL": self.certificate}

    def _properties(self) -> Mapping[str, str]:
        found = dict(super()._properties())
        for name, port in self.listening.items():
            protocol = "SSL" if name == "MUTUAL" else "SASL_SSL"
            found["listeners"] += f",{name}://{HOST}:{port}"
            found["advertised.listeners"] += f",{name}://{HOST}:{port}"
            found["listener.security.protocol.map"] += f",{name}:{protocol}"
            here = f"listener.name.{name.lower()}"
            found[f"{here}.ssl.keystore.type"] = "PEM"
            found[f"{here}.ssl.keystore.location"] = str(self._keys[name])
            found[f"{here}.sasl.enabled.mechanisms"] = "SCRAM-SHA-512"
            login = "listener.name.{}.scram-sha-512.sasl.jaas.config"
            found[login.format(name.lower())] = found[login.format("client")]
        return found | {
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.mutual.ssl.truststore.type": "PEM",
            "listener.name.mutual.ssl.truststore.location": str(self._authority.file),
            "listener.name.mutual.ssl.principal.mapping.rules": rf"RULE:^.*CN=({USER}).*$/$1/,DEFAULT",
        }


@contextlib.contextmanager
def tls_kafka(directory: Path, authority: Authority) -> Iterator[TlsKafka]:
    """Run a broker until the block ends."""
    state = State(directory / "kafka")
    state.create()
    server = TlsKafka(state, authority)
    try:
        server.start()
        yield server
    finally:
        server.wipe()


@dataclass(frozen=True, slots=True)
class TlsPostgres:
    """A PostgreSQL that takes no connection without TLS, with one database and its owner."""

    port: int
    home: Path
    process: "subprocess.Popen[bytes]"

    def present(self, pair: Pair) -> None:
        """Answer with another certificate from the next connection on."""
        for source, name in ((pair.certificate, "server.crt"), (pair.key, "server.key")):
            _owned(source, self.home / name)
        self.reload()

    def demand(self, option: str) -> None:
        """Ask clients for more than a password: `clientcert=verify-ca`, or nothing more again."""
        (self.home / "data" / "pg_hba.conf").write_text(f"hostssl all all {HOST}/32 scram-sha-256 {option}\n")
        self.reload()

    def database(self) -> str:
        """Make a database for one test."""
        name = f"db_{secrets.token_hex(6)}"
        with self.admin() as connection:
            connection.execute(f"CREATE DATABASE {name} OWNER {ACCOUNT}")
        return name

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def cut(self) -> None:
        """End every session of the account."""
        with self.admin() as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [ACCOUNT])

    def admin(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(self.dsn("postgres"), autocommit=True)

    def dsn(self, user: str = ACCOUNT) -> str:
        return make_conninfo(
            host=HOST,
            port=self.port,
            user=user,
            password=PASSWORD,
            dbname="postgres",
            sslmode="require",
            connect_timeout=5,
        )


@contextlib.contextmanager
def tls_postgres(directory: Path, authority: Authority) -> Iterator[TlsPostgres]:
    """Run Debian's PostgreSQL until the block ends."""
    # It refuses to run as root, and another account does not see into root's cache.
    programs = Unpacked(shutil.copytree(unpacked(*POSTGRESQL).root, directory / "programs", symlinks=True))
    home = directory / "home"
    home.mkdir()
    account = unprivileged_account()
    if account is not None:
        os.chown(home, account.uid, account.gid)
    binaries = programs.program("usr/lib/postgresql/15/bin")
    secret = _owned_text(PASSWORD, home / "password")
    made = subprocess.run(
        [str(binaries / "initdb"), "-D", str(home / "data"), "-U", "postgres", "--pwfile", str(secret),
         "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"],
        env=programs.environment(), cwd="/", user=account.uid if account else None, capture_output=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr.decode()
    pair = authority.pair("postgres")
    settings = {
        "listen_addresses": HOST,
        "port": str(free_port()),
        "unix_socket_directories": "",
        "fsync": "off",
        "jit": "off",
        "ssl": "on",
        "ssl_cert_file": str(_owned(pair.certificate, home / "server.crt")),
        "ssl_key_file": str(_owned(pair.key, home / "server.key")),
        "ssl_ca_file": str(_owned(authority.file, home / "authority.crt")),
        "hba_file": str(_owned_text(f"hostssl all all {HOST}/32 scram-sha-256\n", home / "data" / "pg_hba.conf")),
    }
    arguments = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
    command = [str(binaries / "postgres"), "-D", str(home / "data"), *arguments]
    with running(command, programs.environment(), account.uid if account else None, signal.SIGQUIT) as process:
        server = TlsPostgres(int(settings["port"]), home, process)
        eventually(lambda: _answers(server), timeout=60)
        with server.admin() as connection:
            connection.execute(f"CREATE ROLE {ACCOUNT} LOGIN PASSWORD '{PASSWORD}'")
        yield server


def _answers(server: TlsPostgres) -> bool:
    assert server.process.poll() is None, "it ended at once"
    with contextlib.suppress(psycopg.OperationalError):
        server.admin().close()
        return True
    return False


def _owned(source: Path, target: Path) -> Path:
    """Copy a file to where PostgreSQL's account alone reads it."""
    return _owned_text(source.read_text(), target)


def _owned_text(text: str, target: Path) -> Path:
    target.unlink(missing_ok=True)
    target.touch(0o600)
    target.write_text(text)
    account = unprivileged_account()
    if account is not None:
        os.chown(target, account.uid, account.gid)
    return target


@dataclass(frozen=True, slots=True)
class TlsRedis:
    """A Redis that speaks TLS on one port; on another, which tests alone know, it does not."""

    port: int
    plain_port: int

    def admin(self) -> redis.Redis:
        return redis.Redis(port=self.plain_port, socket_timeout=5, retry=Retry(NoBackoff(), 0))

    def present(self, pair: Pair) -> None:
        """Answer with another certificate from the next connection on."""
        with self.admin() as client:
            client.execute_command(
                "CONFIG", "SET", "tls-cert-file", str(pair.certificate), "tls-key-file", str(pair.key)
            )

    def demand(self, wanted: str) -> None:
        """Ask clients for a certificate, or not: `yes`, `no`."""
        with self.admin() as client:
            client.config_set("tls-auth-clients", wanted)

    def cut(self) -> None:
        """End every connection of clients but this one."""
        with self.admin() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


@contextlib.contextmanager
def tls_redis(directory: Path, authority: Authority) -> Iterator[TlsRedis]:
    """Run Debian's Redis until the block ends."""
    pair, port = authority.pair("redis"), free_port()
    (directory / "redis").mkdir()
    files = {"--tls-cert-file": pair.certificate, "--tls-key-file": pair.key, "--tls-ca-cert-file": authority.file}
    arguments = [word for name, value in files.items() for word in (name, str(value))]
    arguments += ["--tls-port", str(port), "--tls-auth-clients", "no", "--maxmemory-policy", "noeviction"]
    with redis_server(flavour("redis"), directory / "redis", *arguments) as server:
        yield TlsRedis(port, server.port)
