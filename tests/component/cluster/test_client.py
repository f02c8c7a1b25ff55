"""What users of a cluster see of its API server's bad days: nothing, or an error that says what to do."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from component.cluster import hostile
from component.cluster.hostile import BOUNDS, Hostile, absent, document, failure, page, status, tenant, text
from keep_operator.cluster import failures
from keep_operator.cluster.client import Cluster, Review, ServerVersion
from keep_operator.cluster.connection import Connection
from keep_operator.errors import Conflict, Refused, Unavailable
from keep_operator.resources.kinds import EVENTS, PROVIDERS, SECRETS, TENANTS

pytestmark = pytest.mark.component

SAFE_PATCH = {"metadata": {"resourceVersion": "7"}, "status": {"id": "keep"}}


class Sleeps:
    """Waits that are written down instead of waited."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


async def test_an_object_is_read_with_its_content(api: Hostile, cluster: Cluster) -> None:
    """What was applied is what the operator sees."""
    api.answers(document(tenant()))
    assert await cluster.get(TENANTS, None, "keep") == tenant()
    assert (api.asked[0].method, api.asked[0].path) == ("GET", "/apis/keep-operator.dev/v1alpha1/tenants/keep")


async def test_an_absent_object_is_an_answer(api: Hostile, cluster: Cluster) -> None:
    """A Secret that is not there yet is waited for, not complained about."""
    api.answers(absent("credentials"))
    assert await cluster.get(SECRETS, "team", "credentials") is None
    assert api.asked[0].path == "/api/v1/namespaces/team/secrets/credentials"


@pytest.mark.parametrize(
    "answer",
    [
        text("404 page not found\n", 404, "text/plain"),
        text("<html>no such site</html>", 404),
        status(404, "NotFound", "the server could not find the requested resource"),
        document({"code": 404}, 404),
    ],
)
async def test_a_stranger_s_404_is_not_taken_for_a_deletion(
    api: Hostile, cluster: Cluster, answer: hostile.Answer
) -> None:
    """A proxy, or a server that has not loaded our CRDs yet, makes no living tenant look deleted."""
    api.answers(answer, answer)
    with pytest.raises(Unavailable, match="crds apply") as caught:
        await cluster.get(TENANTS, None, "keep")
    assert caught.value.reason == "ApiResourceMissing"
    with pytest.raises(Unavailable):
        await cluster.delete(TENANTS, None, "keep")


async def test_too_many_requests_are_answered_by_waiting_as_asked(api: Hostile) -> None:
    """An overloaded server that asks for two seconds gets them."""
    api.answers(status(429, "TooManyRequests", Retry_After="2"), document(tenant()))
    sleeps = Sleeps()
    async with Cluster(
        Connection(api.url), bounds=replace(BOUNDS, total=timedelta(minutes=1)), sleep=sleeps
    ) as cluster:
        assert await cluster.get(TENANTS, None, "keep") is not None
    assert len(sleeps.seconds) == 1
    assert 2.0 <= sleeps.seconds[0] < 2.1


async def test_a_date_to_wait_for_is_understood(api: Hostile) -> None:
    """A load balancer that answers with a date gets its pause, too."""
    api.answers(status(503, "ServiceUnavailable", Retry_After="Fri, 31 Jan 2025 12:00:05 GMT"), document(tenant()))
    sleeps = Sleeps()
    async with Cluster(
        Connection(api.url),
        bounds=replace(BOUNDS, total=timedelta(minutes=1)),
        sleep=sleeps,
        clock=lambda: datetime(2025, 1, 31, 12, 0, 2, tzinfo=UTC),
    ) as cluster:
        assert await cluster.get(TENANTS, None, "keep") is not None
    assert 3.0 <= sleeps.seconds[0] < 3.1


@pytest.mark.parametrize("asked_for", ["-1", "soon", "Fri, 31 Jan 2000 12:00:05 GMT", "Fri, 99 Foo", "\u00b2"])
async def test_a_senseless_wait_is_an_ordinary_back_off(api: Hostile, asked_for: str) -> None:
    """A server that cannot say when is asked again soon."""
    api.answers(status(429, "TooManyRequests", Retry_After=asked_for), document(tenant()))
    sleeps = Sleeps()
    async with Cluster(Connection(api.url), bounds=BOUNDS, sleep=sleeps) as cluster:
        assert await cluster.get(TENANTS, None, "keep") is not None
    assert sleeps.seconds[0] < 0.1


async def test_a_long_wait_is_handed_on(api: Hostile, cluster: Cluster) -> None:
    """A worker is not blocked for a minute: the object's own back-off takes the time that the server asked for."""
    api.answers(status(429, "TooManyRequests", Retry_After="60"))
    with pytest.raises(Unavailable) as caught:
        await cluster.create(EVENTS, "team", {})
    assert (caught.value.reason, caught.value.retry_after_s) == ("ApiServerUnavailable", 60.0)
    assert len(api.asked) == 1


async def test_nobody_is_sent_away_for_ever(api: Hostile, cluster: Cluster) -> None:
    """A server that asks for a year is asked again within minutes."""
    api.answers(status(429, "TooManyRequests", Retry_After="31536000"))
    with pytest.raises(Unavailable) as caught:
        await cluster.get(TENANTS, None, "keep")
    assert caught.value.retry_after_s == 300.0


async def test_a_burst_of_server_errors_is_not_noticed(api: Hostile, cluster: Cluster) -> None:
    """A restarting etcd costs a few tries and no condition."""
    api.answers(
        status(500, "InternalError"), text("<html>bad gateway</html>", 502), hostile.no_answer, document(tenant())
    )
    assert await cluster.get(TENANTS, None, "keep") is not None
    assert len(api.asked) == 4


async def test_an_outage_ends_the_tries(api: Hostile, cluster: Cluster) -> None:
    """A server that stays broken is reported, with what it said, after a few tries."""
    api.otherwise = status(500, "InternalError", "etcdserver: no leader")
    with pytest.raises(Unavailable, match="get tenants keep: etcdserver: no leader") as caught:
        await cluster.get(TENANTS, None, "keep")
    assert caught.value.reason == "ApiServerUnavailable"
    assert len(api.asked) == 4


async def test_nothing_listens(unused_tcp_port: int) -> None:
    """A server that is down is named with its address."""
    async with Cluster(Connection(f"http://127.0.0.1:{unused_tcp_port}"), bounds=BOUNDS) as cluster:
        with pytest.raises(Unavailable, match=f"no connection to 127.0.0.1:{unused_tcp_port}"):
            await cluster.create(TENANTS, None, {})


Act = Callable[[Cluster], Awaitable[Any]]


@pytest.mark.parametrize(
    ("act", "tries"),
    [
        pytest.param(lambda c: c.get(TENANTS, None, "keep"), 4, id="get"),
        pytest.param(lambda c: c.list(TENANTS), 4, id="list"),
        pytest.param(lambda c: c.patch(TENANTS, None, "keep", SAFE_PATCH, "status"), 4, id="patch-with-version"),
        pytest.param(lambda c: c.patch(TENANTS, None, "keep", {"status": {}}, "status"), 1, id="patch"),
        pytest.param(lambda c: c.apply(TENANTS, None, "keep", {}), 4, id="apply"),
        pytest.param(lambda c: c.create(TENANTS, None, {}), 1, id="create"),
        pytest.param(lambda c: c.delete(TENANTS, None, "keep", uid="u"), 4, id="delete-with-uid"),
        pytest.param(lambda c: c.delete(TENANTS, None, "keep"), 1, id="delete"),
    ],
)
@pytest.mark.parametrize(
    "answer",
    [status(500, "InternalError"), hostile.no_answer, hostile.cut_body, text("<html/>")],
    ids=["500", "cut", "half", "html"],
)
async def test_only_what_does_no_harm_is_repeated(
    api: Hostile, cluster: Cluster, act: Act, tries: int, answer: hostile.Answer
) -> None:
    """An Event is not written twice, nor an object deleted that only took the other's name, when the network fails."""
    api.otherwise = answer
    with pytest.raises(Unavailable):
        await act(cluster)
    assert len(api.asked) == tries


async def test_a_stale_idle_connection_costs_a_create_nothing_twice(api: Hostile, cluster: Cluster) -> None:
    """The second create of a kept connection that died is reported, not sent again behind our back."""
    api.answers(document(tenant()), hostile.no_answer)
    await cluster.create(TENANTS, None, tenant())
    with pytest.raises(Unavailable):
        await cluster.create(TENANTS, None, tenant())
    assert len(api.asked) == 2


async def test_a_create_is_repeated_if_it_was_turned_away(api: Hostile, cluster: Cluster) -> None:
    """Too many requests means that nothing was done."""
    api.answers(status(429, "TooManyRequests"), status(429, "TooManyRequests"), document(tenant(), 201))
    assert await cluster.create(TENANTS, None, tenant()) == tenant()
    assert len(api.asked) == 3


async def test_a_stale_view_is_never_written_again(api: Hostile, cluster: Cluster) -> None:
    """Somebody else changed the object first: the operator looks again before it writes."""
    api.answers(status(409, "Conflict", "the object has been modified"))
    with pytest.raises(Conflict) as caught:
        await cluster.patch(TENANTS, None, "keep", SAFE_PATCH, "status")
    assert caught.value.reason == "ObjectChanged"
    assert len(api.asked) == 1
    asked = api.asked[0]
    assert (asked.method, asked.path) == ("PATCH", "/apis/keep-operator.dev/v1alpha1/tenants/keep/status")
    assert asked.headers["Content-Type"] == "application/merge-patch+json"
    assert asked.body == SAFE_PATCH


async def test_a_patch_whose_answer_was_lost_ends_in_a_new_look(api: Hostile, cluster: Cluster) -> None:
    """The patch was carried out but its answer lost: the repeat finds a newer version, which is no failure."""
    api.answers(hostile.cut_body, status(409, "Conflict"))
    with pytest.raises(Conflict):
        await cluster.patch(TENANTS, None, "keep", SAFE_PATCH, "status")


async def test_an_object_that_went_meanwhile_is_a_stale_view(api: Hostile, cluster: Cluster) -> None:
    """A provider deleted while its status was being written: look again, find nothing, done."""
    api.answers(absent("vms"))
    with pytest.raises(Conflict) as caught:
        await cluster.patch(PROVIDERS, "team", "vms", SAFE_PATCH, "status")
    assert caught.value.reason == "ObjectGone"


async def test_a_name_that_is_taken(api: Hostile, cluster: Cluster) -> None:
    """Two replicas make the default tenant at once: the slower one sees that it is there."""
    api.answers(status(409, "AlreadyExists", name="keep"))
    with pytest.raises(Conflict) as caught:
        await cluster.create(TENANTS, None, tenant())
    assert caught.value.reason == "AlreadyExists"


async def test_fields_of_another_owner_are_left_to_a_person(api: Hostile, cluster: Cluster) -> None:
    """Git owns the field: applying the same again would fail for ever, so the owner is named."""
    causes = [
        {"reason": "FieldManagerConflict", "message": 'conflict with "argocd" using v1alpha1', "field": ".spec.x"}
    ]
    api.answers(document(failure(409, "Conflict", causes=causes), 409))
    with pytest.raises(Refused, match="argocd") as caught:
        await cluster.apply(TENANTS, None, "keep", tenant())
    assert caught.value.reason == "FieldManagerConflict"
    assert api.asked[0].query == {"fieldManager": "keep-operator", "force": "false"}
    assert api.asked[0].headers["Content-Type"] == "application/apply-patch+yaml"


async def test_a_missing_right_is_named_with_its_remedy(api: Hostile, cluster: Cluster) -> None:
    """Whoever installed the operator without its role reads what is missing and where to look."""
    api.answers(status(403, "Forbidden", 'User "system:serviceaccount:keep:op" cannot patch resource "tenants/status"'))
    with pytest.raises(Unavailable, match=r"may not patch tenants/status keep: .*cannot patch.*doctor") as caught:
        await cluster.patch(TENANTS, None, "keep", SAFE_PATCH, "status")
    assert caught.value.reason == "ApiAccessDenied"
    assert len(api.asked) == 1


async def test_a_namespace_on_its_way_out(api: Hostile, cluster: Cluster) -> None:
    """Deleting a namespace with everything in it is no missing right."""
    api.answers(document(failure(403, "Forbidden", "x", causes=[{"reason": "NamespaceTerminating"}]), 403))
    with pytest.raises(Unavailable) as caught:
        await cluster.create(EVENTS, "team", {})
    assert caught.value.reason == "NamespaceTerminating"


async def test_what_the_server_rejects_is_a_person_s_to_change(api: Hostile, cluster: Cluster) -> None:
    """A status that the CRD does not admit is reported with the server's words, but not with all of a megabyte."""
    api.answers(status(422, "Invalid", "status.id: Invalid value:\n\x1b[31m" + "x" * 1_000_000))
    with pytest.raises(Refused, match=r"status\.id: Invalid value: \[31mxxx") as caught:
        await cluster.patch(TENANTS, None, "keep", SAFE_PATCH, "status")
    assert caught.value.reason == "ApiRejected"
    assert len(str(caught.value)) < 400
    assert "\x1b" not in str(caught.value)


async def test_a_proxy_s_refusal_is_no_verdict_on_the_object(api: Hostile, cluster: Cluster) -> None:
    """A page that says 400 does not stall a provider until somebody edits it."""
    api.otherwise = text("<html>blocked by policy</html>", 400)
    with pytest.raises(Unavailable):
        await cluster.patch(TENANTS, None, "keep", SAFE_PATCH, "status")


async def test_a_login_page_is_not_followed(api: Hostile, cluster: Cluster) -> None:
    """A single-sign-on proxy's redirect does not take our credentials elsewhere."""
    api.otherwise = text("", 302, Location=f"{api.url}/login")
    with pytest.raises(Unavailable):
        await cluster.create(TENANTS, None, {})
    assert [asked.path for asked in api.asked] == ["/apis/keep-operator.dev/v1alpha1/tenants"]


@pytest.mark.parametrize("body", ["[" * 100_000, "[]", '"text"', "null", "", '{"kind": "Tenant"', "\udcff"])
async def test_an_answer_that_is_no_object_is_no_crash(api: Hostile, cluster: Cluster, body: str) -> None:
    """Whatever stands before the API server and answers nonsense is called unavailable."""
    api.otherwise = hostile.raw(body.encode(errors="surrogateescape"))
    with pytest.raises(Unavailable, match="no Kubernetes object"):
        await cluster.get(TENANTS, None, "keep")


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "TenantList", "metadata": {}, "items": []},
        {"kind": "TenantList", "items": []},
        {"kind": "Tenant", "metadata": {"resourceVersion": "1"}},
        {"kind": "TenantList", "metadata": {"resourceVersion": "1"}, "items": {}},
        {"kind": "TenantList", "metadata": {"resourceVersion": "1"}, "items": [None]},
        {"kind": "TenantList", "metadata": {"resourceVersion": "1"}, "items": [{"metadata": []}]},
    ],
)
async def test_a_list_that_is_none_is_not_an_empty_list(api: Hostile, cluster: Cluster, body: Any) -> None:
    """A garbled list must not look as if every object were gone: the sweep would clean up after them."""
    api.answers(document(body))
    with pytest.raises(Unavailable):
        await cluster.list(TENANTS)


async def test_a_slow_server_is_given_up(api: Hostile) -> None:
    """A server that accepts and then says nothing does not hold a worker."""
    api.otherwise = hostile.silence
    bounds = replace(BOUNDS, total=timedelta(milliseconds=50))
    async with Cluster(Connection(api.url), bounds=bounds) as cluster:
        with pytest.raises(Unavailable, match="no answer in time"):
            await cluster.get(TENANTS, None, "keep")


async def test_a_body_that_trickles_is_given_up(api: Hostile) -> None:
    """A byte now and then is not an answer."""
    api.otherwise = hostile.trickle
    bounds = replace(BOUNDS, total=timedelta(milliseconds=50))
    async with Cluster(Connection(api.url), bounds=bounds) as cluster:
        with pytest.raises(Unavailable, match="no answer in time"):
            await cluster.get(TENANTS, None, "keep")


async def test_a_body_without_end_does_not_fill_the_memory(api: Hostile) -> None:
    """An answer is read up to a bound and dropped beyond it."""
    api.otherwise = hostile.endless
    async with Cluster(Connection(api.url), bounds=replace(BOUNDS, body_bytes=1 << 20)) as cluster:
        with pytest.raises(failures.TooLarge, match="longer than 1048576 bytes"):
            await cluster.get(TENANTS, None, "keep")
    assert len(api.asked) == 1


# -- lists --------------------------------------------------------------------------------------------------------


async def test_a_long_list_comes_in_pages(api: Hostile, cluster: Cluster) -> None:
    """Ten thousand objects are read 500 at a time and all arrive."""
    api.answers(page(tenant("a"), more="t1"), page(tenant("b"), more="t2"), page(tenant("c")))
    listing = await cluster.list(TENANTS, label_selector="team in (a,b)")
    assert [item["metadata"]["name"] for item in listing.items] == ["a", "b", "c"]
    assert listing.resource_version == "100"
    assert [asked.query for asked in api.asked] == [
        {"limit": "500", "labelSelector": "team in (a,b)", **more}
        for more in ({}, {"continue": "t1"}, {"continue": "t2"})
    ]


async def test_a_list_that_expired_is_read_again_as_a_whole(api: Hostile, cluster: Cluster) -> None:
    """A slow list whose pages are no longer kept begins anew: never half of one moment and half of another."""
    expired = status(410, "Expired", "The provided continue parameter is too old")
    api.answers(page(tenant("old"), more="t1"), expired, page(tenant("a"), more="t1"), page(tenant("b"), version="101"))
    listing = await cluster.list(TENANTS)
    assert [item["metadata"]["name"] for item in listing.items] == ["a", "b"]


async def test_a_list_that_always_expires_is_an_error(api: Hostile, cluster: Cluster) -> None:
    """An incomplete list is never handed out."""
    api.answers(*[page(tenant("old"), more="t1"), status(410, "Expired")] * 4)
    with pytest.raises(failures.Expired):
        await cluster.list(TENANTS)
    assert len(api.asked) == 8


async def test_pages_that_are_too_large_become_smaller(api: Hostile) -> None:
    """Five hundred megabyte-sized objects are read a few at a time instead of not at all."""
    large = page(tenant("a" * 3000))
    api.answers(large, large, page(tenant("a"), more="t"), page(tenant("b")))
    async with Cluster(Connection(api.url), bounds=replace(BOUNDS, body_bytes=2000)) as cluster:
        assert len((await cluster.list(TENANTS)).items) == 2
        assert [asked.query["limit"] for asked in api.asked] == ["500", "125", "31", "31"]
    api.asked.clear()
    api.otherwise = large
    async with Cluster(Connection(api.url), bounds=replace(BOUNDS, body_bytes=2000), page_size=3) as cluster:
        with pytest.raises(failures.TooLarge):
            await cluster.list(TENANTS)
    assert [asked.query["limit"] for asked in api.asked] == ["3", "1"]


async def test_an_empty_list_as_go_writes_it(api: Hostile, cluster: Cluster) -> None:
    """A null instead of items is an empty list."""
    api.answers(document({"kind": "TenantList", "metadata": {"resourceVersion": "5"}, "items": None}))
    listing = await cluster.list(TENANTS)
    assert (listing.items, listing.resource_version) == ([], "5")


async def test_other_people_s_secrets_are_asked_for_as_metadata_only(api: Hostile, cluster: Cluster) -> None:
    """The values of Secrets that nobody referred to never leave the API server."""
    api.answers(page(hostile.secret("a", 1, managedFields=[{"manager": "x"}])))
    listing = await cluster.list(SECRETS, "team", metadata_only=True)
    assert api.asked[0].headers["Accept"].startswith("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")
    assert "managedFields" not in listing.items[0]["metadata"]


# -- deletion -----------------------------------------------------------------------------------------------------


async def test_a_deletion_means_that_very_object(api: Hostile, cluster: Cluster) -> None:
    """A tenant that was deleted and made anew under its name is not deleted in the other's place."""
    api.answers(document({"kind": "Status", "status": "Success"}), status(409, "Conflict", "Precondition failed: UID"))
    await cluster.delete(TENANTS, None, "keep", uid="u-1")
    assert api.asked[0].body["preconditions"] == {"uid": "u-1"}
    with pytest.raises(Conflict):
        await cluster.delete(TENANTS, None, "keep", uid="u-1")


async def test_what_is_gone_need_not_be_deleted(api: Hostile, cluster: Cluster) -> None:
    """Deleting twice is as good as deleting once."""
    api.answers(absent("keep"))
    await cluster.delete(TENANTS, None, "keep", uid="u-1")


# -- credentials --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("namespace", "name"),
    [
        ("team", "../../tenants"),
        ("team", ".."),
        ("team", "."),
        ("team", ""),
        ("team", "a/b"),
        ("team", "a%2fb"),
        ("team", "a?b"),
        ("team", "a#b"),
        ("team", "ä"),
        ("team", "a\nb"),
        ("../kube-system", "x"),
        ("", "x"),
    ],
)
async def test_a_name_cannot_lead_elsewhere(api: Hostile, cluster: Cluster, namespace: str, name: str) -> None:
    """A provider that refers to a Secret by a path reads nothing at all."""
    with pytest.raises(Refused, match="valid Kubernetes name") as caught:
        await cluster.get(SECRETS, namespace, name)
    assert caught.value.reason == "NameInvalid"
    assert api.asked == []


async def test_no_more_than_the_limit_at_once(api: Hostile) -> None:
    """A thousand changes at once do not become a thousand connections."""
    api.otherwise = hostile.slowly(0.005, document(tenant()))
    async with Cluster(Connection(api.url), limit=3, bounds=BOUNDS) as cluster:
        await asyncio.gather(*(cluster.get(TENANTS, None, "keep") for _ in range(30)))
    assert api.most_under_way == 3


async def test_every_exchange_is_counted(api: Hostile) -> None:
    """The metrics show each write by verb, and the repeats and failures among them."""
    counted: Counter[tuple[str, str, int]] = Counter()

    def count(verb: str, target: str, code: int) -> None:
        counted[verb, target, code] += 1

    api.answers(
        status(500, "InternalError"),
        document(tenant()),
        document(tenant()),
        hostile.no_answer,
        page(),
        hostile.stream(),
        status(410, "Expired"),
    )
    async with Cluster(Connection(api.url), bounds=BOUNDS, count=count) as cluster:
        await cluster.patch(TENANTS, None, "keep", SAFE_PATCH, "status")
        await cluster.apply(TENANTS, None, "keep", tenant())
        with pytest.raises(Unavailable):
            await cluster.create(EVENTS, "team", {})
        await cluster.list(SECRETS)
        async with cluster.watch(SECRETS, resource_version="1") as pieces:
            assert [piece async for piece in pieces] == []
        with pytest.raises(failures.Expired):
            async with cluster.watch(SECRETS, resource_version="1"):
                pass
    assert counted == {
        ("patch", "tenants/status", 500): 1,
        ("patch", "tenants/status", 200): 1,
        ("apply", "tenants", 200): 1,
        ("create", "events", 0): 1,
        ("list", "secrets", 200): 1,
        ("watch", "secrets", 200): 1,
        ("watch", "secrets", 410): 1,
    }


async def test_lone_surrogates_can_be_sent(api: Hostile, cluster: Cluster) -> None:
    """Text that is no proper Unicode, found in an object, can still be named in its status."""
    api.answers(document(tenant()))
    await cluster.patch(TENANTS, None, "keep", {"status": {"message": "\udc80 ü"}}, "status")
    assert api.asked[0].body == {"status": {"message": "\udc80 ü"}}


async def test_a_server_behind_a_path(api: Hostile) -> None:
    """A cluster that is reached through a management platform's proxy works like any other."""
    api.answers(document(tenant()))
    async with Cluster(Connection(api.url + "/k8s/clusters/c-1/"), bounds=BOUNDS) as cluster:
        await cluster.get(TENANTS, None, "keep")
    assert api.asked[0].path == "/k8s/clusters/c-1/apis/keep-operator.dev/v1alpha1/tenants/keep"


async def test_the_server_tells_its_version_and_time(api: Hostile, cluster: Cluster) -> None:
    """`doctor` can compare clocks and say which features the server has."""
    version = {"gitVersion": "v1.31.2-gke.1", "major": "1", "minor": "31+"}
    api.answers(document(version, Date="Fri, 31 Jan 2025 12:00:05 GMT"), document({}))
    assert await cluster.server_version() == ServerVersion(
        "v1.31.2-gke.1", 1, 31, datetime(2025, 1, 31, 12, 0, 5, tzinfo=UTC)
    )
    assert (await cluster.server_version()).git == "unknown"


async def test_a_right_is_asked_for(api: Hostile, cluster: Cluster) -> None:
    """`doctor` learns which rights are missing before anything fails."""
    api.answers(document({"status": {"allowed": True, "reason": "RBAC: allowed"}}, 201), document({"status": {}}, 201))
    assert await cluster.review("keep-operator.dev", "tenants", "patch", subresource="status") == Review(
        True, "RBAC: allowed"
    )
    assert api.asked[0].body["spec"]["resourceAttributes"] == {
        "verb": "patch",
        "group": "keep-operator.dev",
        "resource": "tenants",
        "subresource": "status",
    }
    assert not (await cluster.review("", "secrets", "get", namespace="team")).allowed


async def test_a_closed_client_says_so(api: Hostile, cluster: Cluster) -> None:
    """What is still under way at the end of the process fails like any other outage."""
    api.answers(document(tenant()))
    await cluster.get(TENANTS, None, "keep")
    await cluster.close()
    with pytest.raises(Unavailable):
        await cluster.get(TENANTS, None, "keep")


async def test_a_cancelled_call_leaves_its_place(api: Hostile) -> None:
    """Workers that are stopped do not use up the connections."""
    arrived = asyncio.Semaphore(0)

    async def no_answer_yet(request: web.Request) -> web.StreamResponse:
        arrived.release()
        return await hostile.silence(request)

    api.answers(no_answer_yet, no_answer_yet, document(tenant()))
    async with Cluster(Connection(api.url), limit=2, bounds=BOUNDS) as cluster:
        for _ in range(2):
            call = asyncio.create_task(cluster.get(TENANTS, None, "keep"))
            await arrived.acquire()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert await cluster.get(TENANTS, None, "keep") is not None


def test_the_script_is_json() -> None:
    """The server that the tests play writes what a real one would."""
    assert json.loads(hostile.event("ADDED", "a", 1))["object"]["metadata"]["resourceVersion"] == "1"
