"""Keep's workflow grammar: text to a definition, a definition to a model or to every fault that it has.

::

    file, ConfigMap ──► dialect.load ──┐
                                       ├──► workflow.judge ──► Workflow, faults, warnings
    spec.definition (JSON) ────────────┘        │
                                                ├── triggers     what starts it
                                                ├── steps        what it does
                                                ├── templates    {{ names }} and keep.functions() in its texts
                                                └── expressions  CEL

A *fault* is what Keep refuses, or what ends each run that gets there. A *warning* is what Keep takes, and what was hardly
meant so. Whatever is not known is kept and warned about.
"""
