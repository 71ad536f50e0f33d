"""Adapters to data planes: what is written for a plan (pure), and the writing.

``port`` has the protocol that the control loop knows. One module per data plane renders;
``envoy_files`` and ``kubernetes_apply`` write. The order of writes is in ``order``.
"""
