"""A real control database for each test."""

from databases import database_url, empty_url, engine, server_url, template

__all__ = ["database_url", "empty_url", "engine", "server_url", "template"]
