"""The main combinations of values, and what the chart made of them when somebody last looked.

`make generate` writes ``golden/`` anew: what differs from the last commit is what users will get.
"""

import sys
from pathlib import Path
from typing import Final

import yaml

from charts import ANCIENT, NEWEST, Json, helm

GOLDEN: Final = Path(__file__).parent / "golden"
COMBINATIONS: Final[dict[str, Json]] = {
    "defaults": {},
    "trial": {
        "postgresql": {"enabled": True},
        "operator": {"replicas": 1},
        "console": {"replicas": 1},
        "runner": {"replicas": 1, "autoscaling": {"enabled": False}},
    },
    "namespaced": {"watchNamespaces": ["monitoring", "sre"], "secretNamespaces": ["monitoring"]},
    "everything": {
        "labels": {"team": "platform"},
        "image": {"repository": "registry.example.com/keep-operator", "pullSecrets": ["pull"]},
        "clusterId": "production",
        "console": {
            "database": {"secret": {"name": "console-database"}},
            "ingress": {"enabled": True, "host": "keep.example.com", "tlsSecretName": "keep-tls"},
        },
        "runner": {
            "database": {"secret": {"name": "runner-database"}},
            "autoscaling": {
                "maxReplicas": 20,
                "metrics": [
                    {
                        "type": "External",
                        "external": {
                            "metric": {"name": "keep_operator_runs_waiting"},
                            "target": {"type": "Value", "value": "100"},
                        },
                    }
                ],
            },
        },
        "networkPolicy": {
            "egress": {
                "enabled": True,
                "apiServer": {"cidrs": ["10.0.0.1/32", "fd00::1/128"]},
                "database": {"cidrs": ["10.1.0.0/16"]},
            },
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "prometheus"}}}],
        },
        "metrics": {"podMonitor": {"enabled": True}},
        "argocd": {
            "enabled": True,
            "relaxed": True,
            "serviceAccount": "system:serviceaccount:gitops:argocd-server",
            "approvals": True,
        },
        "uninstall": {"purge": True},
    },
    "little": {
        "console": {"enabled": False},
        "runner": {"enabled": False},
        "crds": {"install": False},
        "rbac": {"create": False, "userRoles": False},
        "networkPolicy": {"enabled": False},
        "operator": {
            "podDisruptionBudget": {"enabled": False},
            "serviceAccount": {"create": False, "name": "mine"},
            "topologySpreadConstraints": [],
        },
    },
}


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


# The values and the Kubernetes of each golden file.
GOLDEN_FILES: Final = {
    **{f"{name}.yaml": (name, NEWEST) for name in COMBINATIONS},
    "defaults-old-server.yaml": ("defaults", ANCIENT),
}


def golden(file: str) -> str:
    """What belongs into a golden file: all objects but definitions and scripts, which are compared elsewhere."""
    name, kubernetes = GOLDEN_FILES[file]
    objects = [
        each
        for each in helm().render(COMBINATIONS[name], kubernetes)
        if each["kind"] not in ("CustomResourceDefinition", "ConfigMap")
    ]
    return yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110)


def main() -> None:
    """Write them."""
    GOLDEN.mkdir(exist_ok=True)
    for file in GOLDEN_FILES:
        path, text = GOLDEN / file, golden(file)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path}: written\n")


if __name__ == "__main__":
    main()
