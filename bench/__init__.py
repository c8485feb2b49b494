"""The instrument: what the pipeline does in a second, what that costs, and how far it is from the servers' limit."""
