"""What goes to browsers beside the orders of models.py: each in the transaction of what it tells of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.dispatch import receiver
from django.template.loader import render_to_string
from outbox import bulk_publish, publish

from store.channels import html_channel, user_channel
from store.models import Notification


def notify(user_id: int, text: str) -> Notification:
    """Ring one user's bell."""
    (notification,) = notify_many([user_id], text)
    return notification


def notify_many(user_ids: Iterable[int], text: str) -> list[Notification]:
    """Ring many bells at once. `bulk_create` sends no signals, so the events are published beside it."""
    with transaction.atomic():
        rows = Notification.objects.bulk_create([Notification(user_id=user_id, text=text) for user_id in user_ids])
        bulk_publish([(user_channel(n.user_id), {"id": n.pk, "text": n.text}, "notification") for n in rows])
        bulk_publish([(html_channel(n.user_id), _html(n)) for n in rows])
        # The bell's number: an event with a name, which htmx swaps nowhere.
        bulk_publish([(html_channel(n.user_id), None, "ring") for n in rows])
    return rows


def read_all(user: Any) -> None:
    """Silence the bell, on all pages that the user has open."""
    with transaction.atomic():
        user.notifications.filter(is_read=False).update(is_read=True)
        publish(user_channel(user.pk), event="read")
        publish(html_channel(user.pk), event="read")


def _html(notification: Notification) -> str:
    return render_to_string("store/part/ring.html", {"notification": notification})


@receiver(user_logged_out)
def _tell_other_tabs(user: Any, **_: Any) -> None:
    """A courtesy to the user's other tabs, which leave at once. What a token allows ends with the token, not with this."""
    if user is not None:
        publish(user_channel(user.pk), event="logged-out")
        publish(html_channel(user.pk), event="logged-out")
