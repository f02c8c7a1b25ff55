"""The console's pages: what the API tells, for people who would rather look than read.

::

    request ─► front: who? (session) ─► page: may they? (Doorkeeper) ─► read (database, API server) ─► template
                 │ no session: sign in                                     nothing is kept between two requests
    button ──► decide: what will happen, with the difference ─► a WorkflowDecision, made with the user's own token

Pages read; what changes anything is a decision. They work without JavaScript, which only keeps them up to date and draws.
"""
