"""Runs workflows: takes queued runs from the database and carries them out, without knowing Kubernetes."""
