"""SHELL: look at the world, let `domain` decide, do it, look again; one module a kind."""
