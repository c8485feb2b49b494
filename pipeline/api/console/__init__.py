"""The console: one page from the package, and the calls behind it, for who looks at the pipeline and mends it.

It counts nothing and owns no table but the audit's; whatever it asks of a server has a deadline and a bound.
"""
