"""How the ownership marker stands in a row, and how a write is guarded by it."""

from collections.abc import Sequence

from sqlalchemy import CTE, ColumnElement, Table, Text, and_, exists, func, literal
from sqlalchemy.dialects.postgresql import ARRAY

from keep_operator.domain.ownership import Owner
from keep_operator.errors import Conflict
from keep_operator.store import failures
from keep_operator.store.connection import Row
from keep_operator.store.ledger import Action, Deed, owner_details


def of(row: Row) -> Owner | None:
    """The owner in a row; None when nobody owns it."""
    if row.owner_uid is None:
        return None
    return Owner(row.owner_cluster, row.owner_namespace, row.owner_name, row.owner_uid)


def marker(owner: Owner | None) -> dict[str, str | None]:
    """The values of the owner's columns; None clears them."""
    return {
        "owner_cluster": owner.cluster_id if owner else None,
        "owner_namespace": owner.namespace if owner else None,
        "owner_name": owner.name if owner else None,
        "owner_uid": owner.uid if owner else None,
    }


def owned_by(table: Table, owner: Owner | None) -> ColumnElement[bool]:
    """The row is still this owner's (by cluster and uid; names are for people), or still nobody's."""
    if owner is None:
        return table.c.owner_uid.is_(None)
    return and_(table.c.owner_cluster == owner.cluster_id, table.c.owner_uid == owner.uid)


def handing_over(change: CTE, record_id: str, frm: Owner, to: Owner) -> Deed:
    """The ledger's deed for a change of owner.

    The same cluster, namespace and name with another uid is the same object come back, after a restore or a
    forced deletion (A-REV-8): Reattached. Anything else is a hand-over (A-GC-3).
    """
    same_place = (frm.cluster_id, frm.namespace, frm.name) == (to.cluster_id, to.namespace, to.name)
    return Deed(
        change,
        Action.REATTACHED if same_place else Action.HANDED_OVER,
        {"id": record_id, "from": owner_details(frm), "to": owner_details(to)},
    )


def unseen(table: Table, cluster_id: str, uids: Sequence[str]) -> ColumnElement[bool]:
    """The row is of this cluster, and its owner is none of these; by a join, since they may be ten thousand."""
    live = func.unnest(literal(list(uids), ARRAY(Text))).table_valued("uid", name="live").render_derived()
    return and_(table.c.owner_cluster == cluster_id, ~exists().where(live.c.uid == table.c.owner_uid))


def because(cause: str | None) -> dict[str, str]:
    """Why something was done that nobody asked for just now, as it stands in the details of an entry."""
    return {} if cause is None else {"cause": cause}


def changed_meanwhile(what: str) -> Conflict:
    """No row matched the expected owner: somebody else was there first."""
    return Conflict(failures.SYNC_FAILED, f"the record of {what} is gone or has another owner by now; read it again")
