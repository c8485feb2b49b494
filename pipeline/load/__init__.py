"""Load for a pipeline: the reference workload, and a client that sends it through HTTP.

A client like any other: it knows the API and no table or key.
"""
