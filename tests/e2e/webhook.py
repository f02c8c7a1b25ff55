"""An admission webhook that says no: what an administrator's policy does to the operator's writes."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trustme
from aiohttp import web

from e2e.background import running
from e2e.cluster import Json, Kube
from keep_operator.resources.kinds import Resource

PATH = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
MESSAGE = "this object is under a ban"


@contextmanager
def refusing_status_of(kube: Kube, resource: Resource, label: str) -> Iterator[None]:
    """For the length of the block nobody can write the status of the objects that carry a label."""
    authority = trustme.CA()
    with running(_serving(authority.issue_cert("127.0.0.1"))) as serving:
        bundle = authority.cert_pem.bytes()
        port = serving.do(lambda number: number)
        status, answer = kube.send("POST", PATH, _configuration(resource, label, port, bundle))
        assert status == 201, answer
        try:
            yield
        finally:
            kube.send("DELETE", f"{PATH}/a-ban")


def _configuration(resource: Resource, label: str, port: int, authority: bytes) -> Json:
    rule = {
        "apiGroups": [resource.group],
        "apiVersions": [resource.version],
        "operations": ["UPDATE"],
        "resources": [f"{resource.plural}/status"],
    }
    hook = {
        "name": "a-ban.example.com",
        "clientConfig": {"url": f"https://127.0.0.1:{port}/", "caBundle": base64.b64encode(authority).decode()},
        "rules": [rule],
        "objectSelector": {"matchExpressions": [{"key": label, "operator": "Exists"}]},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "a-ban"},
        "webhooks": [hook],
    }


async def _refuse(request: web.Request) -> web.Response:
    review = await request.json()
    answer = {"uid": review["request"]["uid"], "allowed": False, "status": {"message": MESSAGE}}
    return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer})


@asynccontextmanager
async def _serving(certificate: trustme.LeafCert) -> AsyncIterator[int]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(tls)
    application = web.Application()
    application.router.add_post("/", _refuse)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield runner.addresses[0][1]
    finally:
        # The API server keeps its connections; a TLS farewell that nobody answers would outlive the loop.
        for connection in runner.server.connections if runner.server is not None else ():
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(0)
        await runner.cleanup()
