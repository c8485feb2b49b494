"""The proof: every record of the topic judged again, and compared with what both sinks hold.

Independent of the fast code whose work it checks. It mends nothing: what it writes to PostgreSQL are tables of its own,
and Redis is only sent what the outbox still owes it, before the two are compared.
"""
