"""Checks against a real Kubernetes control plane: `make k8s-check KUBECONFIG=...`, never in CI.

The cluster is thrown away after: the namespace gamemetrics is made and deleted. Its nodes may be fake (KWOK); for the
scaling, KEDA must be able to reach this machine's loopback, so it runs here too.
"""
