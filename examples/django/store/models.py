from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.template.loader import render_to_string
from outbox import publish_model

from store.channels import DASHBOARD, html_channel, user_channel

SAVED = ["created", "updated"]


# Wherever an order is saved, in a view, in the admin or in a worker: for its customer as JSON and as HTML, and for the dashboard.
@publish_model(channel=lambda o: user_channel(o.customer_id), event="order", data=lambda o: o.as_json(), on=SAVED)
@publish_model(channel=lambda o: html_channel(o.customer_id), event="message", data=lambda o: o.as_html(), on=SAVED)
@publish_model(
    channel=lambda o: DASHBOARD if o.status != o.was else None,
    event="move",
    data=lambda o: {"from": o.was, "to": o.status},
    on=SAVED,
)
class Order(models.Model):
    """What somebody wants, and how far it has come."""

    class Status(models.TextChoices):
        PLACED = "placed"
        PAID = "paid"
        PACKED = "packed"
        SHIPPED = "shipped"
        DELIVERED = "delivered"

    customer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="orders")
    item = models.CharField(max_length=80)
    status = models.CharField(max_length=10, choices=Status, default=Status.PLACED)
    placed_at = models.DateTimeField(auto_now_add=True)

    # The status that the database had before; None for a new order.
    was: str | None = None

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"Order {self.pk}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        super().save(*args, **kwargs)
        self.was = self.status

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Order:
        order = super().from_db(*args, **kwargs)
        if "status" not in order.get_deferred_fields():
            order.was = order.status
        return order

    @property
    def step(self) -> int:
        """0 for an order that was just placed."""
        return self.Status.values.index(self.status)

    def as_json(self) -> dict[str, Any]:
        return {"id": self.pk, "item": self.item, "status": self.status, "step": self.step}

    def as_html(self) -> str:
        """To be put in front of the page's list, or to take this order's place there."""
        return render_to_string(f"store/part/{'order' if self.was else 'new_order'}.html", {"order": self, "oob": True})

    @property
    def next_status(self) -> str | None:
        return self.Status.values[self.step + 1] if self.step + 1 < len(self.Status.values) else None


class Notification(models.Model):
    """What the bell rings for."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notifications")
    text = models.CharField(max_length=200)
    is_read = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.text
