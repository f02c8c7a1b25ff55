"""What only who runs etcd can do: make the cluster forget its history."""

import http.client
import json
import ssl
from contextlib import closing
from typing import Any

from keep_operator.sandbox.instance import Sandbox


def compact(sandbox: Sandbox) -> None:
    """Drop everything but the newest version of each object, as etcd does by itself every few minutes."""
    newest = _ask(sandbox, "/v3/kv/range", {"key": "AA==", "limit": 1})["header"]["revision"]
    _ask(sandbox, "/v3/kv/compaction", {"revision": newest, "physical": True})


def _ask(sandbox: Sandbox, path: str, question: dict[str, Any]) -> Any:
    home = sandbox.folder / "cluster"
    port = json.loads((home / "ports.json").read_text())["etcd"]
    tls = ssl.create_default_context(cafile=str(home / "pki/etcd-ca.crt"))
    tls.load_cert_chain(home / "pki/etcd-client.crt", home / "pki/etcd-client.key")
    with closing(http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=tls)) as connection:
        connection.request("POST", path, json.dumps(question))
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return json.loads(body)
