"""An HTTP/1.1 server (RFC 9110, 9112): connections, heads, bodies, replies.

It knows nothing of events, keys or boards.
"""
