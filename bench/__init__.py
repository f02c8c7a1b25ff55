"""Measures the operator beside what it could be at best and what it replaces; run by `make bench`."""
