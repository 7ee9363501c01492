"""Pages and what their buttons do. Each page is of one moment, and its stream goes on from there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required, user_passes_test
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST
from outbox import snapshot
from outbox.models import Event

from store.channels import DASHBOARD, html_channel, user_channel
from store.live import notify_many, read_all
from store.models import Order
from store.orders import ITEMS, CardRefusedError, move_on, place

# How much of the past the dashboard shows.
PAST = timedelta(minutes=2)

staff_required = user_passes_test(lambda user: user.is_staff)


@login_required
@snapshot
def orders(request: HttpRequest) -> HttpResponse:
    return render(request, "store/orders.html", _page(request, user_channel(request.user.pk)))


@login_required
@snapshot
def orders_htmx(request: HttpRequest) -> HttpResponse:
    return render(request, "store/orders_htmx.html", _page(request, html_channel(request.user.pk)))


@login_required
@snapshot
def orders_htmx4(request: HttpRequest) -> HttpResponse:
    return render(request, "store/orders_htmx4.html", _page(request, html_channel(request.user.pk)))


@login_required
@staff_required
@snapshot
def dashboard(request: HttpRequest) -> HttpResponse:
    counts = dict(Order.objects.order_by().values_list("status").annotate(Count("id")))
    past = Event.objects.filter(channel=DASHBOARD, created_at__gte=timezone.now() - PAST).order_by("position")
    context = {
        "start": {
            "counts": {status: counts.get(status, 0) for status in Order.Status.values},
            "moves": [int(moment.timestamp() * 1000) for moment in past.values_list("created_at", flat=True)],
            "past": PAST.total_seconds(),
        },
        "dashboard": DASHBOARD,
    }
    return render(request, "store/dashboard.html", _page(request, user_channel(request.user.pk)) | context)


@login_required
@require_POST
def place_order(request: HttpRequest) -> HttpResponse:
    item = request.POST.get("item")
    if item in ITEMS:
        try:
            place(request.user, item, card_works="refuse_card" not in request.POST)
        except CardRefusedError:
            messages.error(request, "The card was refused. All of it was rolled back, so nothing was published.")
    return _back(request)


@login_required
@require_POST
def move_order(request: HttpRequest, pk: int) -> HttpResponse:
    mine = Order.objects.all() if request.user.is_staff else request.user.orders.all()
    move_on(get_object_or_404(mine, pk=pk).pk)
    return _back(request)


@login_required
@require_POST
def read_notifications(request: HttpRequest) -> HttpResponse:
    read_all(request.user)
    return _back(request)


@login_required
@staff_required
@require_POST
def announce(request: HttpRequest) -> HttpResponse:
    if text := request.POST.get("text", "").strip():
        users = get_user_model().objects.filter(is_active=True).order_by("pk")
        notify_many(users.values_list("pk", flat=True), text[:200])
    return _back(request)


def _page(request: HttpRequest, own_channel: str) -> dict[str, Any]:
    notifications = list(request.user.notifications.all()[:8])
    return {
        "channel": own_channel,
        "orders": request.user.orders.all()[:20],
        "items": ITEMS,
        "statuses": Order.Status.labels,
        "notifications": notifications,
        "unread": request.user.notifications.filter(is_read=False).count(),
    }


def _back(request: HttpRequest) -> HttpResponse:
    """From a form of a page to that page; a script that posts stays where it is."""
    if request.headers.get("X-Requested-With") == "fetch" and not messages.get_messages(request):
        return HttpResponse(status=204)
    page = request.POST.get("page")
    return redirect(page if page in ("orders-htmx", "orders-htmx4", "dashboard") else "orders")
