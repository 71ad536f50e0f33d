"""The adapters for a Kubernetes API server: client, store fed by kopf, status, events."""
