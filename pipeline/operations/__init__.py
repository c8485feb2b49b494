"""What an operator asks of a running pipeline: migrate, load, lag, verify, dlq, cache."""
