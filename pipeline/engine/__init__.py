"""The consumer that runs: its loop, its stages and their threads, how far behind it is, and its health.

It puts the parts of the layers below together, and decides nothing about a record.
"""
