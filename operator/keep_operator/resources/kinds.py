"""Where each kind lives in the Kubernetes API, and how one object of it is named inside the operator."""

from dataclasses import dataclass
from typing import Final

GROUP: Final = "keep-operator.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
FIELD_MANAGER: Final = "keep-operator"


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind's address in the API: ``group`` is empty for the core group, ``plural`` is lower case."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """``apiVersion`` as it stands in objects: ``v1`` or ``group/version``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of a collection, an object or a subresource; no namespace = all of them."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace is not None and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part is not None]
        return "/" + "/".join(parts)


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Names one object; the unit of work of the queue. ``namespace`` is empty for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.path}"

    @property
    def path(self) -> str:
        """``namespace/name``, or the bare name of a cluster-scoped object."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


TENANTS: Final = Resource(GROUP, VERSION, "tenants", "Tenant", namespaced=False)
PROVIDERS: Final = Resource(GROUP, VERSION, "providers", "Provider")
WORKFLOWS: Final = Resource(GROUP, VERSION, "workflows", "Workflow")
WORKFLOW_REVISIONS: Final = Resource(GROUP, VERSION, "workflowrevisions", "WorkflowRevision")
WORKFLOW_RUNS: Final = Resource(GROUP, VERSION, "workflowruns", "WorkflowRun")
WORKFLOW_DECISIONS: Final = Resource(GROUP, VERSION, "workflowdecisions", "WorkflowDecision")
# What this version lists and watches.
OURS: Final = (TENANTS, PROVIDERS, WORKFLOWS, WORKFLOW_REVISIONS, WORKFLOW_RUNS, WORKFLOW_DECISIONS)
# Of these each object is looked at by itself. A revision is written by the reconcile of its Workflow.
RECONCILED: Final = (TENANTS, PROVIDERS, WORKFLOWS, WORKFLOW_RUNS, WORKFLOW_DECISIONS)

SECRETS: Final = Resource("", "v1", "secrets", "Secret")
CONFIG_MAPS: Final = Resource("", "v1", "configmaps", "ConfigMap")
NAMESPACES: Final = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
EVENTS: Final = Resource("", "v1", "events", "Event")
TOKEN_REVIEWS: Final = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
ACCESS_REVIEWS: Final = Resource(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease")
ADMISSION_POLICIES: Final = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicies",
    "ValidatingAdmissionPolicy",
    namespaced=False,
)
ADMISSION_POLICY_BINDINGS: Final = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBinding",
    namespaced=False,
)
CUSTOM_RESOURCE_DEFINITIONS: Final = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
