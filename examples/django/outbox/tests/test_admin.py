"""The admin shows events, finds them by channel, and changes none."""

from django.contrib.auth.models import User
from django.test import TestCase

from outbox import publish


class AdminTest(TestCase):
    def setUp(self):
        self.client.force_login(User.objects.create_superuser("root"))
        self.news = publish("news", "<b>hello</b>")
        self.order = publish("user:42", {"order": 7}, event="status")

    def test_events_are_listed_and_found_by_how_their_channel_begins(self):
        page = self.client.get("/admin/outbox/event/")
        self.assertContains(page, "&lt;b&gt;hello")
        self.assertContains(page, "user:42")
        page = self.client.get("/admin/outbox/event/?q=user:")
        self.assertEqual([event.pk for event in page.context["cl"].result_list], [self.order.pk])

    def test_an_event_is_shown_and_cannot_be_added_changed_or_deleted(self):
        self.assertContains(self.client.get(f"/admin/outbox/event/{self.order.pk}/change/"), "status")
        for path in ("add/", f"{self.order.pk}/delete/"):
            self.assertEqual(self.client.get(f"/admin/outbox/event/{path}").status_code, 403)
        self.assertEqual(
            self.client.post(f"/admin/outbox/event/{self.order.pk}/change/", {"channel": "x"}).status_code, 403
        )
