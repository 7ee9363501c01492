"""The admin: what was published, to be looked at, found, and replayed; nothing to change.

Nothing here takes longer the larger the table is: it is never counted, and each filter has an index or looks at the newest.
"""

from __future__ import annotations

import json
from typing import Any, cast
from urllib.parse import quote

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from outbox.conf import setting
from outbox.models import Event

MOST_LISTED = 10_000
# No index has the name of an event: so many of the newest ids are looked at for one, and so many rows for which there are.
NEWEST, NEWEST_NAMES = 100_000, 1_000


class NewestPaginator(Paginator):
    """Counts to MOST_LISTED, and no further."""

    @cached_property
    def count(self) -> int:
        events = cast(QuerySet, self.object_list)
        return events.order_by()[:MOST_LISTED].count()


class NameFilter(admin.SimpleListFilter):
    """By the event's name, among the newest."""

    title = f"event, of the newest {NEWEST:,}"
    parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        newest = model_admin.get_queryset(request).order_by("-id").values_list("event", flat=True)[:NEWEST_NAMES]
        return [(name, name) for name in sorted({*newest, *filter(None, [self.value()])})]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if not self.value():
            return queryset
        newest = Event.objects.using(queryset.db).order_by("-id").values_list("id", flat=True).first() or 0
        return queryset.filter(event=self.value(), id__gt=newest - NEWEST)


@admin.register(Event)
class EventAdmin(admin.ModelAdmin):
    list_display = ["id", "position", "channel", "event", "excerpt", "created_at"]
    list_display_links = ["id", "excerpt"]
    list_filter = [NameFilter, "created_at"]
    # By prefix, which the index on the channel can do.
    search_fields = ["channel__startswith"]
    ordering = ["-id"]
    sortable_by = ["id"]
    fields = ["id", "position", "channel", "event", "data", "created_at", "traceparent", "replay"]
    readonly_fields = ["replay"]
    paginator = NewestPaginator
    show_full_result_count = False
    list_max_show_all = 0
    actions = None
    if hasattr(admin, "ShowFacets"):  # Django 5.0
        # They count, too.
        show_facets = admin.ShowFacets.NEVER

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        # Not as a search_help_text, which Django has describe the field in such a way that nothing labels it.
        subtitle = f"Search is by channel, or how it begins. The newest {MOST_LISTED:,} that match are listed."
        return super().changelist_view(request, {"subtitle": subtitle, **(extra_context or {})})

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        # As the indexes have it.
        return super().get_queryset(request).filter(position__isnull=False)

    @admin.display(description="data")
    def excerpt(self, event: Event) -> str:
        text = event.data if isinstance(event.data, str) else json.dumps(event.data, ensure_ascii=False)
        return Truncator(text).chars(80)

    @admin.display(description="replay")
    def replay(self, event: Event) -> SafeString:
        """The address at which a browser's stream of the channel starts with this event."""
        earlier = Event.objects.using(event._state.db).filter(position__lt=event.position).order_by("-position")
        before = earlier.values_list("pk", flat=True).first()
        address = f"{setting('URL')}?channel={quote(event.channel, safe='')}&last_event_id={before or 'earliest'}"
        return format_html('<a href="{0}">{0}</a>', address)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
