"""Prometheus and the proxies, read into a ``model.Observation``.

``catalogue`` says which series tell a signal, ``promql`` turns it into few queries,
``reading`` and ``answers`` turn what is said into samples or gaps: these are pure. ``prometheus`` and
``envoy_admin`` do the I/O, ``observer`` puts all together.
"""
