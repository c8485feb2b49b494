"""The two sinks, one outside system each; a sink returns when its write is done, or raises."""
