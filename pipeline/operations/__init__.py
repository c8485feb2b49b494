"""What an operator asks of a running pipeline: migrate, lag, keys, dead letters, refusals, a rebuilt cache.

Nothing here prints or parses a command line.
"""
