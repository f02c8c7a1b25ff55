"""Every reason that users meet, with its meaning and what to do: in conditions and Events, and at the start.

The documentation is tested against these tables, and so is what the plans emit.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# What a plan concludes by itself.
_CONCLUDED: Final = {
    "Ready": "Everything that Ready sums up is true. Nothing to do.",
    "Progressing": "Work is under way, or is tried again. Nothing to do; the other conditions name what fails.",
    "WaitingForDependency": "Something that another object provides is missing. Apply it; nothing else is needed.",
    "ProgressDeadlineExceeded": "A dependency has been missing for longer than progressDeadlineSeconds. Apply it; nothing else is needed.",
    "Suspended": "spec.suspend is true, so nothing is written. Set it to false to go on.",
    "Finalizing": "The object is being deleted, and its record is about to pass to another, or a Tenant's objects in Argo CD give "
    "up theirs. Nothing to do.",
    "InUseByWorkflows": "The Provider is being deleted though Workflows use it; it goes all the same. Apply one of that name again, "
    "or change the Workflows that the message names.",
    "Deleting": "The object is being deleted before it became Ready. Nothing to do.",
    "DeletionFailed": "Cleaning up failed and is tried again. The message and the operator's log say why.",
    "DrainingRuns": "The Workflow is being deleted, and waits for its runs to end. Nothing; after deletionGraceSeconds they are cancelled.",
    "DependentsExist": "Providers of the Tenant still exist and serve. Delete them first, or set the annotation that the message names.",
    "TenantReady": "The Tenant is Ready. Nothing to do.",
    "TenantNotFound": "There is no Tenant of that name yet. Apply it; the object goes on by itself.",
    "TenantNotReady": "The Tenant is not Ready, or is being deleted. See the Tenant's conditions.",
    "TenantChanged": "The record belongs to another tenant than the spec leads to. Set spec.tenantRef back, or make a new object.",
    "NamespaceNotAllowed": "The Tenant does not admit this namespace. Add it to the Tenant's spec.allowedNamespaces.",
    "NoDefaultTenant": "spec.tenantRef is not set and the operator has no default tenant. Set spec.tenantRef.name.",
    "Resolved": "All Secrets and keys were found. Nothing to do.",
    "SecretNotFound": "A Secret that the spec names is missing or may not be read. Create it in the same namespace; the message names it.",
    "SecretUnreadable": "A Secret with a token cannot be read just now; it is tried again, and what it was goes on working. See the "
    "operator's log, and `keep-operator doctor`.",
    "TokenInvalid": "What a Secret has in the place of a token cannot be one. Put 16 to 4096 letters, digits or any of . _ ~ + / - there.",
    "SecretKeyNotFound": "A Secret exists without the key that the spec names. Add the key, or correct the spec.",
    "InSync": "The record says what the spec says. Nothing to do.",
    "Created": "The record was made and says what the spec says. Nothing to do.",
    "Updated": "The record was changed to what the spec says. Nothing to do.",
    "DriftCorrected": "The record was changed by other hands and says again what the spec says. The ledger has the fields.",
    "DriftDetected": "The record was changed by other hands, and driftPolicy is Report. Undo it there, or set driftPolicy: Correct.",
    "EncryptionKeyMismatch": "The credentials in the database are sealed with another key. Give that key back; nothing was written.",
    "Adopted": "A record that nobody here owned was taken over. What it said before stands in the ledger.",
    "HandedOver": "The record was taken over with its id from an object that is gone. Nothing to do.",
    "Archived": "The last thing done was to archive revisions that nobody needs. Nothing; `spec.revisionHistoryLimit` and "
    "`spec.retention` say how many are kept.",
    "Serving": "A revision takes runs. Nothing.",
    "RevisionActive": "What the definition says is active. Nothing.",
    "Pinned": "The revision that `spec.release.pin` names is active, whatever the definition says. Nothing; take the pin out "
    "of Git to go on.",
    "NotRequired": "No approval is asked for, or the revision was active before it was. Nothing.",
    "Valid": "The definition can run. Nothing.",
    "ProvidersReady": "All Providers that the definition names are Ready. Nothing.",
    "ProvidersIgnored": "Providers are missing, and `dependencyPolicy: Warn` lets the revision become active anyway. Apply them; steps "
    "that call them fail until then.",
    "Active": "It takes runs. Nothing.",
    "Reserve": "It was active and can be gone back to. Nothing.",
    "NeverActive": "It has not been active. Nothing; the Workflow's `Deployed` says what it waits for.",
    "Superseded": "A newer revision came before this one was, or could be, made active. Nothing; to go back to an older one "
    "decide `Rollback`.",
    "Done": "The decision was carried out. Nothing.",
    "NoOp": "There was nothing to do, or the same `requestId` was handled before. Nothing; to decide the same again take "
    "another `requestId`.",
    "ConfigMapNotFound": "The ConfigMap that `spec.definitionFrom` names, or its key, is missing. Create it in the same namespace; the "
    "message names it.",
    "ProvidersNotReady": "Providers that the definition names are missing or not Ready. What is active stays active. Apply them; the "
    "message names them. `dependencyPolicy: Warn` does not wait.",
    "NoRevisionYet": "No revision has become active yet. Nothing; the Workflow's `Deployed` says what it waits for.",
    "AwaitingApproval": "The desired revision needs approval, and what is active stays active. Read it with `kubectl keep diff`, "
    "then decide `Approve` or `Deny`; the message says how many approvals are missing.",
    "ApprovedByPeers": "Enough people have approved it. Nothing.",
    "CarriedOver": "A revision with the same content was approved before, and `carryOver` lets that count. Nothing.",
    "ChecklistIncomplete": "Required items of the checklist are open, and what is active stays active. Do what they say and decide "
    "`CheckItem` for each; those that find themselves true need nothing but runs, or another definition.",
    "Complete": "Every required item of the checklist is done. Nothing.",
    "ItemsOpen": "Required items of the checklist are open. See the Workflow's `Deployed`.",
    "CanaryInProgress": "The desired revision is tried with a part of the runs. Nothing; it goes on by itself. `kubectl keep release` "
    "shows how far it is.",
    "CanaryPaused": "The canary waits for a person, by a step or by the decision `Pause`. Decide `Promote`, `Resume` or `Abort`.",
    "AnalysisInconclusive": "Too few runs ended in time to judge the canary, which keeps its share. Decide `Promote`, `Abort`, or `Resume` "
    "to measure again.",
    "Aborted": "Somebody ended the canary, and its content is held back. Change the definition, or decide `Resume` or `Retry` to begin "
    "anew.",
    "Canary": "It is tried with a part of the runs. Nothing.",
    "Stable": "It takes the runs that the canary does not get. Nothing.",
    "AwaitingDeploy": "The strategy is `Manual`, and nobody has decided `Deploy` of this revision. Decide `Deploy`.",
    "WorkflowNotFound": "There is no Workflow of that name, or it has no record yet. Apply it; after ten minutes the decision, or the "
    "run, is refused.",
    "ParseError": "The definition cannot be read, or is no JSON that everybody reads alike. What is active stays active. Correct "
    "the line or path that the message names.",
    "SchemaError": "The definition breaks the grammar. What is active stays active. Correct the paths that the message names: "
    "[the grammar](grammar.md).",
    "UnknownAction": "A step calls something that its provider cannot do. What is active stays active. Correct the step that the "
    "message names.",
    "ActionNotSupported": "A step needs what the built-in runtime cannot do. What is active stays active. Correct the step that the "
    "message names; [what is supported](actions.md).",
    "TooLarge": "The definition has more than 200 KiB. Split the workflow.",
    "ProviderTypeMismatch": "A step takes a Provider for another type than it has. Correct the step's `type`, or name another Provider.",
    "InvalidRevision": "The desired or pinned revision is not valid, so it is not active. Correct the definition, or the pin.",
    "Invalid": "The definition cannot run. Nothing for this revision; `Valid` says why.",
    "Denied": "Its content was denied, under this number or another one. Change the definition.",
    "DeniedByPeer": "A person denied it, for ever. Change the definition.",
    "DeniedByContent": "Another revision with the same content was denied. Change the definition.",
    "AnalysisFailed": "Too many of its runs failed, so it was taken back. Change the definition, or decide `Retry`.",
    "RejectedByUser": "Its content was rejected by the decision `Reject`. Change the definition, or decide `Retry`.",
    "RevisionNotFound": "A pin, or a run, names a revision that is not there. What is active stays active. Correct the pin, or make "
    "another run; or give a revision the tag.",
    "StrategyUnsupported": "A canary or automatic rollback is asked for, which the Tenant's runtime does not carry out. What is "
    "active stays active. Take it out of `spec.release`, or use the runtime builtin.",
    "RolledBack": "Somebody rolled back on purpose, and the definition is held back. Change the definition in Git or revert it, "
    "or decide `Resume`; see the message.",
    "AutoRolledBack": "The operator rolled back because runs failed, and the definition is held back. Change the definition in Git "
    "or revert it, or decide `Retry`.",
    "NeverDeployed": "No revision that may run has ever been there. Correct the definition.",
    "DisabledInDefinition": "The definition says `disabled: true`. Take it out to go on.",
    "ActiveRevisionBroken": "What is active calls a Provider that is gone. Apply the Provider again, or change the definition.",
    "Refused": "The decision is not possible in this state. Read the message; decide something else.",
    "Forbidden": "Who decided may not decide so: a right is missing, or he is none of the approvers. The message says which.",
    "SelfApproval": "The author of a version does not approve it. Somebody else must.",
    "ActorUnverified": "The cluster cannot prove who made the decision, which is one for the privileged. See "
    "KEEP_OPERATOR_DECISIONS_UNVERIFIED.",
    "Stale": "Another revision is active than the author of the decision saw. Look again, and decide anew.",
    "NoRollbackTarget": "No earlier revision may run. Set `spec.suspend` to stop the workflow, or mend the definition.",
    "TargetInvalid": "The revision that was decided upon is not valid. Choose another one.",
    "TargetDenied": "The revision that was decided upon was denied. Choose another one.",
    "TargetRejected": "The revision that was decided upon was rejected. Choose another one, decide `Retry`, or use `force`.",
    "Accepted": "The run is bound to one revision, and the database has it. Nothing.",
    "WaitingForTenant": "The Workflow's Tenant is not Ready, or the Workflow has no record yet. Nothing; the run goes on by itself.",
    "Queued": "The run waits for a worker. Nothing; if it stays so, see whether runners are there.",
    "Running": "A worker runs it. Nothing; `spec.cancel: true` ends it.",
    "Completed": "The run has come to its end. Nothing.",
    "StepFailed": "A step of the run failed. See its message, and the record; mend the workflow or what the step calls.",
    "TimedOut": "The run took longer than its timeout. See which step did; give it more time with `spec.timeout`.",
    "Cancelled": "Somebody ended the run, or the Workflow went. Nothing; make another run.",
    "WorkerLost": "The worker that ran it died, and what it was at must not be done twice, or was tried too often. See whether the "
    "step has taken effect; then make another run.",
    "RevisionInvalid": "The revision that the run names is not valid. Name another one.",
    "InvalidInputs": "The inputs of the run are not what its revision declares. Make another run, with those that the message names "
    "corrected.",
    "RevisionNotApproved": "The revision that the run names was denied, was rejected, or needs an approval. Name another one.",
    "DuplicateIdempotencyKey": "Another run of the workflow has the same idempotency key. Nothing; to run it again take another key.",
    "ConcurrencyForbidden": "Another run of the workflow is under way, and the workflow forbids a second one. Make another run later.",
    "RuntimeUnsupported": "The Tenant's runtime cannot start such a run. Start it there, or use the runtime builtin.",
    "RestoredFromBackup": "The run came back from a backup, so it does not run again. Make another one to run it.",
    "UnknownProviderType": "spec.type is not a provider type. Correct it; the message suggests the nearest one.",
    "InvalidConfig": "A field of spec.config or spec.secrets is missing, unknown or malformed. Correct what the message names.",
    "SpecRefused": "The spec breaks a rule or cannot be stored. Correct the field that the message names.",
    "ImmutableFieldChanged": "A field that cannot change was changed; the recorded value stays. Set it back, or make a new object.",
    "ExternalNameConflict": "Another object holds the name. Delete one of the two, or choose another name.",
    "ExternalResourceExists": "A record of this name exists that no object here manages. Allow its adoption, or choose another name.",
    "DatabaseBehind": "The database has no record that this object is known to have had; nothing was written. See `keep-operator recover`.",
}

# What ended an attempt, as the doors to the database and the cluster call it.
_FAILED: Final = {
    "InternalError": "A fault of the operator; it is tried again. The operator's log has the details: please report it.",
    "DatabaseUnavailable": "The control database does not answer; it is tried again. See its log, and `keep-operator doctor`.",
    "DatabaseUnsupported": "What answers is not a PostgreSQL that is supported. Correct KEEP_OPERATOR_DATABASE_URL.",
    "SyncFailed": "The control database refused a statement; it is tried again. The message and the operator's log say why.",
    "SchemaMissing": "The operator's tables are missing. Run `keep-operator migrate`, or restart the operator.",
    "ApiServerUnavailable": "The API server does not answer; it is tried again. Nothing to do for this object.",
    "ApiUnauthorized": "The API server does not accept the operator's credentials. See `keep-operator doctor`.",
    "ApiAccessDenied": "The operator lacks a right. `keep-operator doctor` lists the ones that are missing.",
    "ApiResourceMissing": "The API server does not serve the kind. Run `keep-operator crds apply`.",
    "ApiRejected": "The API server rejected what the operator wrote. The message says why: an admission policy, perhaps.",
    "ApiCredentialsUnavailable": "The operator's credentials could not be obtained; it is tried again. See the message.",
    "NamespaceTerminating": "The namespace is being deleted. Nothing to do.",
    "NameInvalid": "A name that the spec refers to cannot be the name of an object. Correct it.",
}

# Only in an Event: what it tells of is over.
_IN_EVENTS: Final = {
    "RevisionTampered": "A WorkflowRevision was changed or made by other hands; it was deleted, and what the database has is made again. "
    "Find out who writes there.",
}

# Only in the log and on `/readyz`: nothing is reconciled yet.
_AT_START: Final = {
    "SettingsInvalid": "An environment variable is missing or cannot be used. The message names it and the remedy.",
    "KubeconfigInvalid": "How to reach the API server is not said, or not in a way that can be used. Correct the kubeconfig.",
    "InvalidDatabaseURL": "KEEP_OPERATOR_DATABASE_URL cannot be read. Percent-encode special characters of user and password.",
    "SchemaOutdated": "The schema is older than this version needs. Run `keep-operator migrate`, or wait until `operate` has.",
    "SchemaTooNew": "The schema was migrated by a newer version. Upgrade this process too.",
    "MigrationRunning": "Another process migrates the schema. It goes on by itself.",
    "LeadershipLost": "Another replica leads now. This process ends and begins anew as a standby.",
    "WatchFailed": "A watch of our kinds cannot go on. This process ends and begins anew; the message says what the server said.",
    "PortTaken": "Another process listens on the port. Set KEEP_OPERATOR_HEALTH_PORT.",
    "FieldManagerConflict": "Others own fields that the operator was to apply. Leave the fields to one side.",
}

MEANINGS: Final[Mapping[str, str]] = MappingProxyType(_CONCLUDED | _FAILED | _IN_EVENTS)
"""By reason, what it means and what to do: every reason that can stand in a condition or an Event."""

AT_START: Final[Mapping[str, str]] = MappingProxyType(_AT_START)
"""The same for what stands in no condition, but stops a process at its start."""
