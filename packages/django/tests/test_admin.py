"""The admin shows events, finds them by channel, name and date, tells how to replay one, and changes none."""

from unittest import mock

from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import TransactionTestCase
from django.test.utils import CaptureQueriesContext
from django.utils.html import escape

from outbox import publish
from outbox.admin import NewestPaginator
from outbox.models import Event

EVENTS = "/admin/outbox/event/"
DATE = "2026-01-01 00:00:00%2B00:00"


class AdminTest(TransactionTestCase):
    def setUp(self):
        Event.objects.all().delete()
        self.client.force_login(User.objects.create_superuser("root"))
        self.news = publish("news", "<b>hello</b>")
        self.order = publish("user:42", {"order": 7}, event="status")

    def found(self, query):
        return [event.pk for event in self.client.get(f"{EVENTS}?{query}").context["cl"].result_list]

    def test_events_are_listed_and_found_by_how_their_channel_begins_their_name_and_their_date(self):
        page = self.client.get(EVENTS)
        self.assertContains(page, "&lt;b&gt;hello")
        self.assertContains(page, "user:42")
        self.assertContains(page, "?event=status")
        for query, expected in [
            ("", [self.order, self.news]),
            ("q=user:", [self.order]),
            ("q=ser:", []),
            ("event=status", [self.order]),
            ("event=gone", []),
            (f"created_at__gte={DATE}", [self.order, self.news]),
            (f"created_at__lt={DATE}", []),
        ]:
            with self.subTest(query=query):
                self.assertEqual(self.found(query), [event.pk for event in expected])

    def test_the_table_is_not_counted(self):
        for query in ("", "q=user:", "event=status", f"created_at__gte={DATE}"):
            with self.subTest(query=query), CaptureQueriesContext(connection) as queries:
                self.client.get(f"{EVENTS}?{query}")
            counts = [q["sql"] for q in queries if "COUNT(" in q["sql"] and '"outbox"' in q["sql"]]
            self.assertEqual([sql for sql in counts if "LIMIT 10000" not in sql], [])
        with mock.patch("outbox.admin.MOST_LISTED", 1):
            self.assertEqual(NewestPaginator(Event.objects.order_by("id"), 10).count, 1)

    def test_an_event_has_the_address_of_a_stream_that_starts_with_it(self):
        for event, address in [
            (self.news, "/events?channel=news&last_event_id=earliest"),
            (self.order, f"/events?channel=user%3A42&last_event_id={self.news.pk}"),
        ]:
            address = escape(address)
            self.assertContains(
                self.client.get(f"{EVENTS}{event.pk}/change/"), f'<a href="{address}">{address}</a>', html=True
            )

    def test_an_event_is_shown_and_cannot_be_added_changed_or_deleted(self):
        self.assertContains(self.client.get(f"{EVENTS}{self.order.pk}/change/"), "status")
        for path in ("add/", f"{self.order.pk}/delete/"):
            self.assertEqual(self.client.get(f"{EVENTS}{path}").status_code, 403)
        self.assertEqual(self.client.post(f"{EVENTS}{self.order.pk}/change/", {"channel": "x"}).status_code, 403)

    def test_staff_need_the_permission_to_view_and_no_other(self):
        staff = User.objects.create_user("staff", is_staff=True)
        self.client.force_login(staff)
        for path in ("", f"{self.order.pk}/change/"):
            self.assertEqual(self.client.get(f"{EVENTS}{path}").status_code, 403)
        staff.user_permissions.add(Permission.objects.get(codename="view_event"))
        for path in ("", f"{self.order.pk}/change/"):
            self.assertEqual(self.client.get(f"{EVENTS}{path}").status_code, 200)
