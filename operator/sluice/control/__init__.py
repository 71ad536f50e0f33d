"""The control loop: gather, estimate, decide, act, verify, report; and what feeds and shows it.

Everything the loop touches stands behind a port (``ports``): the world of resources, the
observer, the data plane, the status sink, the recorder of events, the clock. Two sets of
adapters exist: a Kubernetes API server fed by kopf (``cluster``), and a directory of
manifests with an output folder (``directory``, ``files``).
"""
