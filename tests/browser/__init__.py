"""The console in a real browser, on the real servers."""
