"""Events that come in: judged, stamped, held within a budget of bytes, handed to the producer.

Nothing here reads a table or a key of Redis.
"""
