-- What may be decided about a Workflow from Argo CD now; the rest is shown and cannot be clicked.
local status = obj.status or {}
local found = {}
for _, condition in ipairs(status.conditions or {}) do
  found[condition.type] = condition
end
local deployed = (found.Deployed or {}).reason
local active = (status.activeRevision or {}).number
local desired = (status.desiredRevision or {}).number
local pinned = obj.spec.release ~= nil and obj.spec.release.pin ~= nil

local earlier = false
for _, deployment in ipairs(status.history or {}) do
  if deployment.revision ~= active then
    earlier = true
  end
end

local function action(title, icon, possible)
  return {
    displayName = title,
    iconClass = "fa fa-fw " .. icon,
    disabled = not possible,
    params = { { name = "reason" }, { name = "onBehalfOf" } },
  }
end

local rejected = deployed == "RejectedByUser" or deployed == "AutoRolledBack"
return {
  rollback = action("Roll back", "fa-undo", active ~= nil and earlier and not pinned),
  resume = action("Resume what Git says", "fa-play", status.hold ~= nil),
  deploy = action("Deploy", "fa-rocket", deployed == "AwaitingDeploy" and desired ~= nil),
  reject = action("Reject", "fa-ban", desired ~= nil and not rejected),
  retry = action("Retry", "fa-redo", rejected),
}
