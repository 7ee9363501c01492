"""Cursors: where the stream of a page is to start, so that page and stream together are the whole truth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, router, transaction
from django.db.transaction import TransactionManagementError

# The newest event that is there, or the newest that was deleted where nothing is.
_HEAD = """
    (SELECT id, position FROM outbox WHERE position IS NOT NULL ORDER BY position DESC LIMIT 1)
    UNION ALL SELECT id, position FROM outbox_floor
    ORDER BY position DESC LIMIT 1
"""


def current_cursor(using: str | None = None) -> str:
    """The id to start a stream at: after all that this transaction sees committed, before all that comes later.

    In a transaction of Django's default level, READ COMMITTED, each query sees what is committed when it starts. Take the cursor
    *before* the page's data then: nothing is missed, but what commits in between is in the page and in the stream. In a
    `consistent_page` the order does not matter, and nothing is in both.
    """
    from outbox.models import Event

    with connections[using or router.db_for_write(Event)].cursor() as cursor:
        cursor.execute(_HEAD)
        return str(cursor.fetchone()[0])


class consistent_page:
    """Read all of a page in one moment: the cursor, and the data that the stream is to go on from.

    Opens a transaction that is REPEATABLE READ and READ ONLY, as a decorator of a view or as a context manager. A
    `TemplateResponse` is rendered inside of it. Nothing can be written in it, and it has to be the outermost transaction; for
    that, the decorator takes the view out of ATOMIC_REQUESTS. In a `TestCase`, which has a transaction of its own around
    everything, it is part of that.

    >>> @consistent_page
    ... def orders(request):
    ...     return render(request, "orders.html", {"orders": Order.objects.all()})
    """

    def __new__(cls, view: Any = None, *, using: str = DEFAULT_DB_ALIAS) -> Any:
        if callable(view):
            return cls(using=using)(view)
        return super().__new__(cls)

    def __init__(self, view: None = None, *, using: str = DEFAULT_DB_ALIAS) -> None:
        self.using = using

    def __call__(self, view: Any) -> Any:
        @wraps(view)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with consistent_page(using=self.using):
                response = view(*args, **kwargs)
                # Rendered later it would read of another moment.
                if callable(getattr(response, "render", None)):
                    response = response.render()
                return response

        return transaction.non_atomic_requests(using=self.using)(inside)

    def __enter__(self) -> None:
        self._moment = _one_moment(self.using)
        self._moment.__enter__()

    def __exit__(self, *exception: Any) -> bool | None:
        return self._moment.__exit__(*exception)


@contextmanager
def _one_moment(using: str) -> Iterator[None]:
    connection = connections[using]
    outer = list(connection.atomic_blocks) if connection.in_atomic_block else []
    # The mark that TestCase leaves on its own blocks, for the same question in durable atomic blocks.
    if not all(getattr(block, "_from_testcase", False) for block in outer):
        raise TransactionManagementError(
            "consistent_page has to be the outermost transaction: what was read before would be of another moment. "
            "Use it instead of atomic; as a decorator it takes its view out of ATOMIC_REQUESTS."
        )
    with transaction.atomic(using=using):
        if not outer:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield
