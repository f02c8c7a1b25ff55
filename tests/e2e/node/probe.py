"""Probes of a container, asked as a kubelet asks them."""

import http.client
import time
from collections.abc import Mapping

from e2e.node.spec import Unresolved
from manifests import Json


class Probe:
    """One probe of a container; `passed` is None until it has made up its mind."""

    def __init__(self, probe: Json, container: Json) -> None:
        if "httpGet" not in probe:
            raise Unresolved(f"this node does not know probes of the kind {', '.join(probe)}")
        self.passed: bool | None = None
        self._asked = probe
        port = probe["httpGet"]["port"]
        named = {each.get("name"): each["containerPort"] for each in container.get("ports", ())}
        self._port = named[port] if isinstance(port, str) else port
        self._next_s = time.monotonic() + probe.get("initialDelaySeconds", 0)
        self._row = 0

    def ask(self, ports: Mapping[int, int]) -> None:
        """Ask, if it is time; ``ports`` lead from the container's to the machine's."""
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + self._asked.get("periodSeconds", 10)
        good = self._get(ports[self._port])
        self._row = max(self._row, 0) + 1 if good else min(self._row, 0) - 1
        if self._row >= self._asked.get("successThreshold", 1):
            self.passed = True
        elif -self._row >= self._asked.get("failureThreshold", 3):
            self.passed = False

    def _get(self, port: int) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=self._asked.get("timeoutSeconds", 1))
        try:
            connection.request("GET", self._asked["httpGet"].get("path", "/"))
            return 200 <= connection.getresponse().status < 400
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
