"""The gate: holds requests at the proxy until their class may start a prefill, and frees the place at the first token.

``state`` is the pure machine (no clock, no I/O); ``server``, ``gauges``, ``feed`` and
``process`` are the shell around it. The order of admission is decided by the policies of
``sluice.policy``, the same that the simulator runs.
"""
