"""Checks of what is deployed: image, manifests, rules, dashboards. `make deploy-check` runs them, not `make test`.

They need kubectl, Go and promtool on the PATH, and fetch the schemas from package registries into the user's cache.
"""
