"""`manage.py move_orders`: the warehouse, a process of its own that publishes as the site does."""

from __future__ import annotations

import random
import signal
import time
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand

from store.management.commands.demo_users import WALK_IN
from store.models import Order
from store.orders import ITEMS, move_on, place


class Command(BaseCommand):
    help = "Move an order on now and then, or place one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--every", type=float, default=2.5, help="seconds; default: %(default)s")
        parser.add_argument("--order", type=int, help="move this one once, and end")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["order"] is not None:
            order = move_on(options["order"])
            self.stdout.write(f"{order} is {order.status}")
            return
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            while True:
                self.step()
                time.sleep(options["every"])
        except KeyboardInterrupt:
            pass

    @staticmethod
    def step() -> None:
        open_orders = Order.objects.exclude(status=Order.Status.DELIVERED)
        if random.random() < 0.2 or not open_orders.exists():
            place(get_user_model().objects.get(username=WALK_IN), random.choice(ITEMS))
        else:
            move_on(open_orders.order_by("?").values_list("pk", flat=True)[0])
