"""`manage.py demo_users`: who can log in to the example, and what is in it at first."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from django.db import transaction

from store.models import Order
from store.orders import ITEMS

LOG_INS = {"alice": "a customer", "ben": "another", "dana": "staff: dashboard and admin"}
# Whose orders keep the dashboard busy. Nobody can log in as them.
WALK_IN = "walk-in"


class Command(BaseCommand):
    help = "Make the demo's users and some orders, unless they are there."

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        User = get_user_model()
        for name in LOG_INS:
            staff = name == "dana"
            user, created = User.objects.get_or_create(
                username=name, defaults={"is_staff": staff, "is_superuser": staff}
            )
            if created:
                user.set_password(settings.DEMO_PASSWORD)
                user.save()
        walk_in, created = User.objects.get_or_create(username=WALK_IN, defaults={"is_active": False})
        if created:
            # In bulk, which sends no signals: this is not news.
            statuses = Order.Status.values
            people = {user.username: user for user in User.objects.all()}
            past = [(walk_in, statuses[n * n % len(statuses)]) for n in range(14)]
            past += [(people["alice"], "packed"), (people["alice"], "placed"), (people["ben"], "shipped")]
            Order.objects.bulk_create(
                Order(customer=who, item=ITEMS[n % len(ITEMS)], status=status) for n, (who, status) in enumerate(past)
            )
        for name, what in LOG_INS.items():
            self.stdout.write(f"{name} / {settings.DEMO_PASSWORD}  ({what})")
