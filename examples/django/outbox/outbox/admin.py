"""The admin: what was published, to be looked at and searched by channel; nothing to change."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.text import Truncator

from outbox.models import Event


@admin.register(Event)
class EventAdmin(admin.ModelAdmin):
    list_display = ["id", "position", "channel", "event", "excerpt", "created_at"]
    list_display_links = ["id", "excerpt"]
    # By prefix, which the index on the channel can do.
    search_fields = ["channel__startswith"]
    search_help_text = "By channel, or how it begins"
    ordering = ["-id"]
    # Counting all of a large table takes longer than anything else on the page.
    show_full_result_count = False
    actions = None

    @admin.display(description="data")
    def excerpt(self, event: Event) -> str:
        text = event.data if isinstance(event.data, str) else json.dumps(event.data, ensure_ascii=False)
        return Truncator(text).chars(80)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
