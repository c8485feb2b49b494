"""The two sinks, PostgreSQL and Redis, and how Redis is kept level with PostgreSQL.

A sink returns when its write is done, or raises; nothing but a sink moves a watermark or adds to a counter.
"""
