"""`python -m pipeline` is `gamemetrics`."""

from pipeline.cli.main import main

main()
