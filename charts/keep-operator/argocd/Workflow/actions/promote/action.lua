-- Decides Promote about the Workflow that Argo CD shows.
-- The canary goes on to its next step.
local os = require("os")

-- Must be the Kubernetes user that Argo CD creates the decision as.
local actor = "system:serviceaccount:argocd:argocd-server"
local given = actionParams or {}
local status = obj.status or {}

local function text(value)
  if value ~= nil and value ~= "" then
    return value
  end
end

-- A second click in the same second, on the same state, is the same request.
local stamp = "promote-" .. obj.metadata.resourceVersion .. "-" .. os.time()
local name = obj.metadata.name .. "-" .. stamp
if #name > 253 then
  name = obj.metadata.uid .. "-" .. stamp
end

local decision = {
  apiVersion = obj.apiVersion,
  kind = "WorkflowDecision",
  metadata = {
    name = name,
    namespace = obj.metadata.namespace,
    -- Without its owner Argo CD would not show it below the Workflow.
    ownerReferences = {
      {
        apiVersion = obj.apiVersion,
        kind = obj.kind,
        name = obj.metadata.name,
        uid = obj.metadata.uid,
        controller = false,
        blockOwnerDeletion = false,
      },
    },
  },
  spec = {
    workflowRef = { name = obj.metadata.name },
    action = "Promote",
    actor = actor,
    onBehalfOf = text(given.onBehalfOf),
    reason = text(given.reason),
    requestId = obj.metadata.uid .. "-" .. stamp,
  },
}
if status.activeRevision ~= nil then
  decision.spec.expect = { activeRevision = status.activeRevision.number }
end
-- The canary that was seen, and none that has begun since.
if status.canary ~= nil then
  decision.spec.revision = { number = status.canary.revision }
end
return { { operation = "create", resource = decision } }
