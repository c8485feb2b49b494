"""GET /docs: one page that reads /openapi.json; it needs nothing from elsewhere."""

from importlib.resources import files
from typing import Final

DOCS_PAGE: Final = (files("pipeline.api") / "docs.html").read_bytes()
