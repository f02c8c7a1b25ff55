-- The health of a WorkflowRevision in Argo CD: the first rule that fits.
-- Scripts in argocd-cm have no string and no math library.
local relaxed = false -- true: what waits for a person, or was stopped by one, counts as Healthy

local function verdict(health, message)
  if relaxed and health == "Suspended" then
    health = "Healthy"
  end
  return { status = health, message = message }
end

local status = obj.status or {}
local found = {}
for _, condition in ipairs(status.conditions or {}) do
  found[condition.type] = condition
end

if obj.metadata.deletionTimestamp ~= nil then
  local deleting = found.Deleting or {}
  return verdict("Progressing", deleting.message or "It is being deleted")
end
if status.observedGeneration ~= obj.metadata.generation then
  return verdict("Progressing", "The operator has not looked at the newest spec yet")
end

local ready = found.Ready or { status = "Unknown", message = "The operator has not said whether it is Ready" }
local stalled = found.Stalled or {}
if ready.status == "False" or stalled.status == "True" then
  return verdict("Degraded", ready.status == "False" and ready.message or stalled.message)
end
if ready.reason == "AwaitingApproval" then
  return verdict("Suspended", ready.message)
end
if ready.status == "True" then
  return verdict("Healthy", ready.message)
end
return verdict("Progressing", ready.message)
