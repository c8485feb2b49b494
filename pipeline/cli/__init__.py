"""What is typed: one file a command, what it prints and which exit code it gives.

No work is done here; a command loads what it needs when it is called.
"""
