"""What Keep's workflows say in their texts, evaluated in a sandbox: no process, file, network, clock, or attribute.

::

    context      names and where they lead: what a run knows
       │
    mustache ──► text                 {{ names }}, sections, helpers
       │
       ├── functions                  keep.functions(), the time being an argument
       └── expressions                if and assert: a small part of Python's expressions
              │
          conditions                  threshold, assert, stddev

    limits       how much of anything: counted, never timed

What stands in a definition is a program, what comes from alerts, results and inputs is data: it is never read as a
template, a call, or an expression (docs/adr/0041).
"""
