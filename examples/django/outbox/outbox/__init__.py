"""Live updates for Django without ASGI: publish by INSERT, deliver by outbox-relay.

What a project needs stands here; the modules are the parts::

    from outbox import publish

    with transaction.atomic():
        order.save()
        publish(f"user:{order.customer_id}", {"order": order.pk, "status": order.status})
"""

from outbox.changes import publish_changes
from outbox.cursor import consistent_page, current_cursor
from outbox.eventstream import send_event
from outbox.publishing import bulk_publish, publish
from outbox.tokens import delete_token_cookie, set_token_cookie, token_for

__all__ = [
    "bulk_publish",
    "consistent_page",
    "current_cursor",
    "delete_token_cookie",
    "publish",
    "publish_changes",
    "send_event",
    "set_token_cookie",
    "token_for",
]
