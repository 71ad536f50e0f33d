"""Prometheus and the proxies, read into a ``model.Observation``.

``catalogue`` says which series tell a signal, ``promql`` turns it into few queries,
``reading`` turns answers into samples or gaps: these three are pure. ``prometheus`` and
``envoy_admin`` do the I/O, ``observer`` puts all together.
"""
