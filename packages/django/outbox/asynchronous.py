"""What is said to async code that calls a function which waits for the database."""

from __future__ import annotations

from django.utils.asyncio import async_unsafe


def sync_only(call: str, instead: str) -> None:
    """Raises SynchronousOnlyOperation, with what to write `instead`, where an event loop runs in this thread.

    As in all of Django, DJANGO_ALLOW_ASYNC_UNSAFE lets it pass.
    """
    async_unsafe(f"{call} waits for the database, which an async function must not do. {instead}")(lambda: None)()
