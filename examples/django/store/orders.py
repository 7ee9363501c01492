"""What is done with orders. Each function is one transaction: the order, the notification and their events, or none of it."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from store.live import notify
from store.models import Order

ITEMS = ["Tea, 250 g", "Kettle", "Two cups", "Teapot", "Strainer"]
WORDS = {
    "paid": "is paid for",
    "packed": "is packed",
    "shipped": "is on its way",
    "delivered": "has been delivered",
}


class CardRefusedError(Exception):
    """The payment failed, after all else was done."""


@transaction.atomic
def place(customer: Any, item: str, *, card_works: bool = True) -> Order:
    """Place an order. Where the card does not work nothing of it remains, and nobody hears of it."""
    order = Order.objects.create(customer=customer, item=item)
    notify(customer.pk, f"{order}: we have got it. {item}.")
    if not card_works:
        raise CardRefusedError
    return order


@transaction.atomic
def move_on(pk: int) -> Order:
    """Move an order one step on; one that has arrived stays where it is."""
    order = Order.objects.select_for_update().get(pk=pk)
    if order.next_status:
        order.status = order.next_status
        order.save(update_fields=["status"])
        notify(order.customer_id, f"{order} {WORDS[order.status]}.")
    return order
