"""Numbered SQL migrations, applied in order by `gamemetrics migrate`."""
