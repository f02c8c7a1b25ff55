-- The health of a WorkflowRun in Argo CD: the first rule that fits.
-- Scripts in argocd-cm have no string and no math library.

local function verdict(health, message)
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

local succeeded = found.Succeeded or { status = "Unknown", message = "The operator has not said what becomes of it" }
if succeeded.status == "False" then
  return verdict("Degraded", succeeded.message)
end
if succeeded.status == "True" then
  return verdict("Healthy", succeeded.message)
end
return verdict("Progressing", succeeded.message)
