"""Databases for the length of a test."""

import contextlib
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql


def beside(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@contextlib.contextmanager
def temporary(url: str, template: str = "template0", *, encoding: str = "UTF8") -> Iterator[str]:
    """A new database beside the one of ``url``, a copy of ``template``; gone at the end, whoever is still connected."""
    name = f"test_{uuid.uuid4().hex}"
    made = sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING {} STRATEGY file_copy").format(
        sql.Identifier(name), sql.Identifier(template), sql.Literal(encoding)
    )
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(made)
    try:
        yield beside(url, name)
    finally:
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
