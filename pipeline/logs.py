"""Structured logs on standard error: for people on a terminal, JSON lines elsewhere."""

import logging
import re
import sys
from time import monotonic
from typing import Final

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

AGAIN_SECONDS: Final = 30.0
_REMEMBERED: Final = 1_000
_NUMBERS: Final = re.compile(r"\d+ ?ms|, \d+ identical[^)]*")


class Seldom:
    """Whether to say a text: not again within AGAIN_SECONDS, whichever counts and times are in it.

    A client of Kafka tries every broker that is away twenty times a second, and has a line for each try.
    """

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def __call__(self, text: str) -> bool:
        """Tell whether it is news, and take it for said."""
        text, now = _NUMBERS.sub("", text), monotonic()
        if now < self._said.get(text, now):
            return False
        if len(self._said) >= _REMEMBERED:
            self._said.clear()
        self._said[text] = now + AGAIN_SECONDS
        return True


def librdkafka() -> logging.Logger:
    """Return the logger of Kafka's clients, which says each thing seldom."""
    found = logging.getLogger("librdkafka")
    if not found.filters:
        seldom = Seldom()
        found.addFilter(lambda record: seldom(record.getMessage()))
    return found


def configure(level: str) -> None:
    """Send structlog's and the standard library's records of `level` and above to standard error."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    terminal = sys.stderr.isatty()
    render: list[Processor] = (
        [_printable, structlog.dev.ConsoleRenderer()]
        if terminal
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape control characters, so that a client's text cannot forge a line or move a terminal's cursor."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable() and name not in {"exception", "stack"}:
            event[name] = value.encode("unicode_escape").decode("ascii")
    return event


def _json(event: EventDict, **_options: object) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
