"""Who may do what, and how much of it: keys, signatures, limits.

It judges requests, never events.
"""
