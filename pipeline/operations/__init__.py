"""What an operator asks of a running pipeline: migrate, lag, keys, dead letters, a rebuilt cache.

Nothing here prints or parses a command line.
"""
