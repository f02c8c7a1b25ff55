"""`kubectl keep`: which version runs, what changed, take it back; on the user's machine, with the user's own rights.

::

    main ──► past, difference, plan, release, decisions, pin, records, files, doctor      one module for a family of commands
                 │            what they share: view, options, output, actor
                 ├──► kubectl     objects: the user's own kubectl, a process for each question
                 └──► read_api    what objects cannot tell: `keep-operator console`

It must start fast, since people call it in the middle of an incident: nothing here imports at its top what is not light,
and rules of `domain` are imported by the command that asks them.
"""
