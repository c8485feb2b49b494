"""Records to columns to deltas to bytes: all that is made of an epoch before a server hears of it.

Pure: no socket, no clock; tested alone and with hypothesis.
"""
