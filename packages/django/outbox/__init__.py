"""Live updates for Django without ASGI: publish by INSERT, deliver by outbox-relay.

What a project needs stands here; the modules are the parts::

    from outbox import publish

    with transaction.atomic():
        order.save()
        publish(f"user:{order.customer_id}", {"order": order.pk, "status": order.status})
"""

from outbox.changes import publish_model
from outbox.cursor import acurrent_cursor, current_cursor, snapshot
from outbox.envelope import notify
from outbox.eventstream import asend_event, send_event
from outbox.publishing import abulk_publish, apublish, bulk_publish, publish
from outbox.tokens import delete_token_cookie, set_token_cookie, token_for

__all__ = [
    "abulk_publish",
    "acurrent_cursor",
    "apublish",
    "asend_event",
    "bulk_publish",
    "current_cursor",
    "delete_token_cookie",
    "notify",
    "publish",
    "publish_model",
    "send_event",
    "set_token_cookie",
    "snapshot",
    "token_for",
]
