"""The custom resources: what users declare, what we report, and how both are checked.

``resources`` holds the pydantic models (the single source), ``generate`` turns them into
``crds/*.yaml``, ``validate`` says offline what the API server would say, ``manifests``
reads files, ``resolve`` turns resources into the domain values of ``sluice.model``,
``supply`` counts replicas and ``conditions`` keeps the books of status.
"""
