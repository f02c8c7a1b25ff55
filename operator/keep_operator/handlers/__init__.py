"""KOPF: the only room that knows it; it lists and watches our kinds and hands what it sees to the world.

kopf loads the official Kubernetes client when that happens to be installed, to know its types: 0.8 s and some 30 MB
for what we never use. So it is imported here first, at a moment when that client cannot be found.
"""

import sys

_ABSENT = "kubernetes" not in sys.modules
if _ABSENT:
    sys.modules["kubernetes"] = None  # type: ignore[assignment]  # makes `import kubernetes` raise ImportError
try:
    import kopf  # noqa: F401
finally:
    if _ABSENT:
        del sys.modules["kubernetes"]
