"""Cursors: where the stream of a page is to start, so that page and stream together are the whole truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast, overload

from asgiref.sync import sync_to_async
from django.db import DEFAULT_DB_ALIAS, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError

from outbox.asynchronous import sync_only
from outbox.schema import OutboxMissing, needs_outbox

View = TypeVar("View", bound=Callable[..., Any])

# On a connection: the cursor of the snapshot that it is in.
_OF_SNAPSHOT = "_outbox_cursor_of_snapshot"


def current_cursor(using: str | None = None) -> str:
    """The cursor to start a stream at.

    Take it *before* the page's data: nothing is missed, but what commits in between is in the page and in the stream. In a
    `snapshot` it is the page's own, whenever it is taken, and nothing is in both.
    """
    from outbox.models import Event

    sync_only("current_cursor()", "Write `await acurrent_cursor()`; pages: `await sync_to_async(render)(request, …)`.")
    connection = connections[using or router.db_for_write(Event)]
    return getattr(connection, _OF_SNAPSHOT, None) or _first_cursor(connection)


async def acurrent_cursor(using: str | None = None) -> str:
    """`current_cursor` for async code."""
    return await sync_to_async(current_cursor)(using)


def _first_cursor(connection: BaseDatabaseWrapper) -> str:
    with needs_outbox(connection.alias), connection.cursor() as cursor:
        cursor.execute("SELECT outbox_cursor()")
        return str(cursor.fetchone()[0])


class _Snapshot:
    """What `snapshot` gives where it is given no view: a context manager, or a decorator."""

    def __init__(self, using: str) -> None:
        self._using = using

    def __call__(self, view: View) -> View:
        if iscoroutinefunction(view):
            raise TypeError(
                f"snapshot is a transaction, which the async function {view.__name__} cannot hold. Have what reads the page in a "
                "function with @snapshot, and call it by `await sync_to_async(…)()`."
            )

        @wraps(view)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with _Snapshot(self._using):
                response = view(*args, **kwargs)
                # Rendered later it would read of another moment.
                if callable(getattr(response, "render", None)):
                    response = response.render()
                return response

        return cast(View, transaction.non_atomic_requests(using=self._using)(inside))

    def __enter__(self) -> str:
        sync_only(
            "snapshot()",
            "Have what reads the page in a function of its own, and call it by `await sync_to_async(…)()`.",
        )
        self._moment = _one_moment(self._using)
        return self._moment.__enter__()

    def __exit__(self, *exception: Any) -> bool | None:
        return self._moment.__exit__(*exception)


@overload
def snapshot(view: View, *, using: str = DEFAULT_DB_ALIAS) -> View: ...
@overload
def snapshot(view: None = None, *, using: str = DEFAULT_DB_ALIAS) -> _Snapshot: ...
def snapshot(view: Any = None, *, using: str = DEFAULT_DB_ALIAS) -> Any:
    """Read all of a page in one moment, with the cursor from which its stream brings exactly what the page does not show.

    Opens a transaction that is REPEATABLE READ and READ ONLY, as a decorator of a view or as a context manager, which gives the
    cursor; so do `current_cursor()` and the template tags inside of it. A `TemplateResponse` is rendered inside of it. Nothing
    can be written in it, and it has to be the outermost transaction; for that, the decorator takes the view out of
    ATOMIC_REQUESTS. In a `TestCase`, which has a transaction of its own around everything, it is part of that.

    >>> @snapshot
    ... def orders(request):
    ...     return render(request, "orders.html", {"orders": Order.objects.all()})

    >>> with snapshot() as cursor:
    ...     orders = list(Order.objects.all())

    `using` is the database of the page, which has to be the outbox's. Raises TransactionManagementError where it is not, or in
    another transaction; TypeError for an async view.
    """
    return _Snapshot(using) if view is None else _Snapshot(using)(view)


@contextmanager
def _one_moment(using: str) -> Iterator[str]:
    connection = connections[using]
    outer = list(connection.atomic_blocks) if connection.in_atomic_block else []
    # The mark that TestCase leaves on its own blocks, for the same question in durable atomic blocks.
    if not all(getattr(block, "_from_testcase", False) for block in outer) or not (
        outer or connection.get_autocommit()
    ):
        raise TransactionManagementError(
            "snapshot has to be the outermost transaction: what was read before would be of another moment. "
            "Use it instead of atomic; as a decorator it takes its view out of ATOMIC_REQUESTS."
        )
    # The first cursor is of a transaction that is over when the page's begins, which then sees all that comes before it.
    try:
        with transaction.atomic(using=using):
            _begin(connection, "READ COMMITTED", unless=outer)
            cursor = _first_cursor(connection)
    except OutboxMissing as error:
        from outbox.models import Event

        if using == (home := router.db_for_write(Event)):
            raise
        raise TransactionManagementError(
            f"snapshot needs the outbox in the database of the page, and {using!r} has none: events go to {home!r}. No moment is "
            "the same in two databases: call current_cursor() before the page is read, in a view that can take an event twice."
        ) from error
    with transaction.atomic(using=using):
        _begin(connection, "REPEATABLE READ, READ ONLY", unless=outer)
        if not outer:
            cursor = _exact_cursor(connection, cursor)
        setattr(connection, _OF_SNAPSHOT, cursor)
        try:
            yield cursor
        finally:
            delattr(connection, _OF_SNAPSHOT)


def _begin(connection: BaseDatabaseWrapper, level: str, *, unless: list[Any]) -> None:
    if not unless:
        with connection.cursor() as cursor:
            cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")


def _exact_cursor(connection: BaseDatabaseWrapper, after: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT outbox_cursor(%s::pg_catalog.text)", [after])
        return str(cursor.fetchone()[0])
