"""`python -m pipeline` is `gamemetrics`."""

from pipeline.cli import main

main()
