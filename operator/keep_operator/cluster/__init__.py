"""KUBERNETES: the one room that speaks to the API server."""
