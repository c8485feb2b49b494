"""The embedded Kafka, PostgreSQL and Valkey, and `gamemetrics run` on top of them.

A deployment starts nothing of it: no layer but `cli` imports it, whose commands ask `settings` whether a stack of this
checkout is meant. It needs neither root, nor Docker, nor a Java of the machine's.
"""
