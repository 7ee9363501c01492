"""Cursors: where the stream of a page is to start, so that page and stream together are the whole truth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from django.db import DEFAULT_DB_ALIAS, ProgrammingError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError

# On a connection: the cursor of the consistent_page that it is in.
_OF_PAGE = "_outbox_cursor_of_page"


def current_cursor(using: str | None = None) -> str:
    """The cursor to start a stream at.

    Take it *before* the page's data: nothing is missed, but what commits in between is in the page and in the stream. In a
    `consistent_page` it is the page's own, whenever it is taken, and nothing is in both.
    """
    from outbox.models import Event

    connection = connections[using or router.db_for_write(Event)]
    return getattr(connection, _OF_PAGE, None) or _first_cursor(connection)


def _first_cursor(connection: BaseDatabaseWrapper) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT outbox_cursor()")
        return str(cursor.fetchone()[0])


class consistent_page:
    """Read all of a page in one moment, with the cursor from which its stream brings exactly what the page does not show.

    Opens a transaction that is REPEATABLE READ and READ ONLY, as a decorator of a view or as a context manager, which gives the
    cursor; so do `current_cursor()` and the template tags inside of it. A `TemplateResponse` is rendered inside of it. Nothing
    can be written in it, and it has to be the outermost transaction; for that, the decorator takes the view out of
    ATOMIC_REQUESTS. In a `TestCase`, which has a transaction of its own around everything, it is part of that.

    >>> @consistent_page
    ... def orders(request):
    ...     return render(request, "orders.html", {"orders": Order.objects.all()})

    >>> with consistent_page() as cursor:
    ...     orders = list(Order.objects.all())
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

    def __enter__(self) -> str:
        self._moment = _one_moment(self.using)
        return self._moment.__enter__()

    def __exit__(self, *exception: Any) -> bool | None:
        return self._moment.__exit__(*exception)


@contextmanager
def _one_moment(using: str) -> Iterator[str]:
    connection = connections[using]
    outer = list(connection.atomic_blocks) if connection.in_atomic_block else []
    # The mark that TestCase leaves on its own blocks, for the same question in durable atomic blocks.
    if not all(getattr(block, "_from_testcase", False) for block in outer) or not (
        outer or connection.get_autocommit()
    ):
        raise TransactionManagementError(
            "consistent_page has to be the outermost transaction: what was read before would be of another moment. "
            "Use it instead of atomic; as a decorator it takes its view out of ATOMIC_REQUESTS."
        )
    # The first cursor is of a transaction that is over when the page's begins, which then sees all that comes before it.
    with _needs_outbox(using), transaction.atomic(using=using):
        _begin(connection, "READ COMMITTED", unless=outer)
        cursor = _first_cursor(connection)
    with transaction.atomic(using=using):
        _begin(connection, "REPEATABLE READ, READ ONLY", unless=outer)
        if not outer:
            cursor = _exact_cursor(connection, cursor)
        setattr(connection, _OF_PAGE, cursor)
        try:
            yield cursor
        finally:
            delattr(connection, _OF_PAGE)


def _begin(connection: BaseDatabaseWrapper, level: str, *, unless: list[Any]) -> None:
    if not unless:
        with connection.cursor() as cursor:
            cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")


def _exact_cursor(connection: BaseDatabaseWrapper, after: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT outbox_cursor(%s::pg_catalog.text)", [after])
        return str(cursor.fetchone()[0])


@contextmanager
def _needs_outbox(using: str) -> Iterator[None]:
    try:
        yield
    except ProgrammingError as error:
        # psycopg 3 has the one, psycopg2 the other.
        code = getattr(error.__cause__, "sqlstate", None) or getattr(error.__cause__, "pgcode", None)
        if code != "42883":  # undefined_function
            raise
        raise TransactionManagementError(
            f"consistent_page needs the outbox in the database of the page, and {using!r} has none. No moment is the same in two "
            "databases: call current_cursor() before the page is read, in a view that can take an event twice."
        ) from error
