"""Frozen domain data. Units stand in names: seconds, tokens, permille, per second."""
