"""What several commands share: an option, and settings with logs set up by them."""

from typing import Annotated

import typer

from pipeline.config import Settings
from pipeline.local.settings import operator_settings
from pipeline.logs import configure

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def printable(text: str) -> str:
    """Escape control characters: what others sent must not move a terminal's cursor."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def settings_with_logs() -> Settings:
    """Read the environment and set logging up by it."""
    settings = operator_settings()
    configure(settings.log_level)
    return settings
