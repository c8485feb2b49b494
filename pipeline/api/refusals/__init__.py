"""Refusals: what was refused of which key, kept for a while, because who sent it may not have seen the answer.

Nothing here may delay a request, fail one, or keep a value of an event's data.
"""
