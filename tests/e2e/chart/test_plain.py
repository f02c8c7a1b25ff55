"""`kubectl apply -k`: the way in without Helm."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from charts import NAMESPACE, ROOT
from e2e.chart.accounts import operators
from e2e.chart.conftest import definitions
from e2e.cluster import Database, Kube, eventually, provider, tenant
from keep_operator.resources.kinds import OURS

pytestmark = pytest.mark.e2e


def test_apply_and_apply_again(bare: Kube, database: Database, tmp_path: Path) -> None:
    """Applied twice, the second time nothing changes; the operator works with the rights that it got."""
    version = bare.send("GET", "/version")[1]["gitVersion"].removeprefix("v")
    argv = [sys.executable, str(ROOT / "charts" / "generate.py"), "--plain", version]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    objects = list(yaml.safe_load_all(text))
    (tmp_path / "install.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "kustomization.yaml").write_text("resources: [install.yaml]\n", encoding="utf-8")
    try:
        first = bare.kubectl("apply", "-k", str(tmp_path))
        assert first.count(" created") + first.count(" configured") == len(objects), first
        again = bare.kubectl("apply", "-k", str(tmp_path)).splitlines()
        assert [line for line in again if not line.endswith(" unchanged")] == []
        eventually(lambda: len(definitions(bare)), lambda count: count == len(OURS))
        with operators(bare, database, tmp_path) as start:
            start()
            bare.create(tenant("team"), provider("vm", NAMESPACE, "team"))
            bare.await_ready(tenant("team"), provider("vm", NAMESPACE, "team"))
            bare.delete(provider("vm", NAMESPACE, "team"))
            bare.await_gone(provider("vm", NAMESPACE, "team"))
            bare.delete(tenant("team"))
            bare.await_gone(tenant("team"))
    finally:
        rest = yaml.safe_dump_all([each for each in objects if each["kind"] != "Namespace"])
        bare.kubectl("delete", "--ignore-not-found", "--wait=false", "-f-", stdin=rest)
