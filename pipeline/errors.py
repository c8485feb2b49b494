"""The errors this package raises.

Everything raised on purpose derives from `PipelineError`; what a library raises is translated at the module
that talks to it, so that a caller decides by one of these and never by a driver's class.

    PipelineError
    ├── ConfigurationError      a setting, a server's set-up or a schema is wrong: start fails, exit code 2
    ├── EventError              one event breaks the contract: a 400 at the edge, a dlq_events row at the consumer
    ├── UnavailableError        a server is away or answered with something that passes: wait and try again
    │   └── RefusedError        it denies the account a right: fails a start; later, wait and say why
    ├── FencedError             another process owns the partition now: drop the work, write nothing
    └── HaltError               going on would lose or double events, or bury a bug: stop and say why
"""


class PipelineError(Exception):
    """The root of the package's errors."""


class ConfigurationError(PipelineError):
    """A setting, a server's set-up or a schema is wrong; the message names what to change."""


class EventError(PipelineError):
    """One event breaks the contract.

    `field` is the dotted path of the offending field, or "" when the event as a whole is at fault.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


class UnavailableError(PipelineError):
    """A server is away, or refused for a reason that passes by itself (deadlock, serialization, restart)."""


class RefusedError(UnavailableError):
    """A server denies the account a right: waiting alone does not mend it, but whoever grants the right does."""


class FencedError(PipelineError):
    """The partition's watermark moved under this process: a peer owns it now."""


class HaltError(PipelineError):
    """Going on would lose events, count them twice or bury a bug; the message says what an operator decides."""
