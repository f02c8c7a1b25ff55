"""SANDBOX: a Kubernetes control plane and a PostgreSQL on this machine, for ``make run`` and the tests.

::

    commands ── instance ──┬── options, source, state, status    what is chosen, what it became, how it is
                           ├── control_plane ─┬── certificates
                           ├── kind           └── kubeconfig
                           ├── postgres
                           ├── builder ── recipe ── apt          Kubernetes, compiled once from Debian's source package
                           ├── tools                             a current kubectl and helm
                           ├── cache          what is kept under ~/.cache/keep-operator, checked and locked
                           └── processes ── guardian        children recorded so that none is lost and no stranger is killed

Everything listens on 127.0.0.1 and lives in one folder; nothing here is imported by ``operate``.
"""
