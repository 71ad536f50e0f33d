"""Measures how long an engine iteration takes, and fits the law that plans rest on.

Two ways to measure: ``kernel`` runs a transformer of the requested shape with torch, on
a GPU or on the CPU; ``engine`` watches a live engine from outside, over HTTP. Both give
``measurement.Measurement`` rows; ``laws`` fits them, ``choice`` picks a law and says why,
``manifest`` writes the IterationProfile. Only ``transformer`` and what stands on it
imports torch, so fitting and the engine profiler work without it.
"""
