"""The consumer that runs: its loop, its flights, how far it is behind and how it feels.

It puts the parts of the layers below together, and decides nothing about a record.
"""
