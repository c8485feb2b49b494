"""The proof: every record of the topic judged again, and compared with what both sinks hold.

Independent of the fast code whose work it checks; it changes nothing.
"""
