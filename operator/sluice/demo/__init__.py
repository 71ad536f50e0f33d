"""The closed loop on one machine: simulated replicas, real Prometheus, real Envoy, an open-loop load."""
