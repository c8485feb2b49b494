"""The errors this package raises.

Everything raised on purpose derives from `PipelineError`; what a library raises is translated at the module
that talks to it, so that a caller decides by one of these and never by a driver's class. An error that its own layer
catches again is not one of them.

    PipelineError
    ├── ConfigurationError      a setting, a server's set-up or a schema is wrong: start fails, exit code 2
    ├── EventError              one event breaks the contract: a 400 at the edge, a dlq_events row at the consumer
    ├── UnavailableError        a server is away or answered with something that passes: wait and try again
    │   ├── RefusedError        it denies the account a right: fails a start; later, wait and say why
    │   └── UnknownPartitionError   the topic has no such partition (`kafka.browser`)
    ├── RewindError             an epoch starts above its watermark: nothing is written, read again from there
    ├── StoppedError            the consumer was asked to stop while it waited for a server: leave the work, exit code 0
    ├── HaltError               going on would lose or double events, or bury a bug: stop and say why, exit code 1
    ├── UnknownLetterError      no dead letter has this id, or it is not in a state that allows it (`operations.dlq`)
    └── KeyNameError            the name of an API key is taken, or no valid key has it (`operations.keys`)
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
    """A server turns us away: the account, a right of it, a certificate of either side, or it lacks what we ask for.

    Waiting alone does not mend it, but whoever grants the right does, or sees to the password, the certificate or the
    server. At the start it is a wrong configuration.
    """


class RewindError(PipelineError):
    """An epoch starts above its watermark (PostgreSQL was restored, or an epoch before it failed): read again."""


class StoppedError(PipelineError):
    """The consumer was asked to stop while it waited for a server; the epoch is abandoned and will be read again."""


class HaltError(PipelineError):
    """Going on would lose events, count them twice or bury a bug; the message says what an operator decides."""
