-- What may be decided about a Workflow from Argo CD now. What makes no sense at the moment is grey; what is about a canary or
-- an approval is there only while there is one.
local approvals = true -- false: Argo CD's account has no right to approve and deny
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

local canary = status.canary
local paused = canary ~= nil and canary.paused == true
local rejected = deployed == "RejectedByUser" or deployed == "AutoRolledBack"
local actions = {
  rollback = action("Roll back", "fa-undo", active ~= nil and earlier and not pinned),
  resume = action("Resume what Git says", "fa-play", status.hold ~= nil or paused),
  deploy = action("Deploy", "fa-rocket", deployed == "AwaitingDeploy" and desired ~= nil),
  reject = action("Reject", "fa-ban", desired ~= nil and not rejected),
  retry = action("Retry", "fa-redo", rejected),
}
if canary ~= nil then
  actions.promote = action("Promote the canary", "fa-forward", true)
  actions.pause = action("Pause the canary", "fa-pause", not paused)
  actions.abort = action("Abort the canary", "fa-stop", true)
end
local approved = found.Approved or {}
if approvals and approved.status == "Unknown" and approved.reason == "AwaitingApproval" and desired ~= nil then
  actions.approve = action("Approve", "fa-check", true)
  actions.deny = action("Deny", "fa-times", true)
end
return actions
