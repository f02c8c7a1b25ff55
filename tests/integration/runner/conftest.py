"""A real control database, and actions that the test plays."""

from databases import database_url, empty_url, engine, server_url, template

__all__ = ["database_url", "empty_url", "engine", "server_url", "template"]
