"""keep-operator: tenants, alert providers and alert workflows of Keep as Kubernetes resources."""

__version__ = "0.1.0"
