"""A page has the address of its stream, for whoever looks at it."""

from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.template import Context, Template
from django.test import RequestFactory, TestCase, override_settings
from django.test.utils import CaptureQueriesContext

from outbox import current_cursor

PUBLIC = {"PUBLIC_CHANNELS": ["news", "status:*"]}


def render(text, **context):
    return Template("{% load outbox %}" + text).render(Context(context))


class UrlTest(TestCase):
    def setUp(self):
        self.ann = User.objects.create_user("ann")
        self.nobody = AnonymousUser()

    def test_the_address_has_the_channels_that_are_named_percent_encoded(self):
        self.assertEqual(
            render('{% outbox_url "news" name %}', name="a&b=<'\"é"),
            f"/events?channel=news&channel=a%26b%3D%3C%27%22%C3%A9&last_event_id={current_cursor()}",
        )

    def test_the_address_has_all_that_the_user_may_read_where_none_are_named(self):
        with override_settings(OUTBOX={"URL": "https://live.example.com/events"}):
            self.assertEqual(
                render("{% outbox_url %}", user=self.ann),
                f"https://live.example.com/events?channel=user%3A{self.ann.pk}&last_event_id={current_cursor()}",
            )
        with override_settings(OUTBOX=PUBLIC):
            self.assertEqual(
                render("{% outbox_url %}", user=self.ann),
                f"/events?channel=news&channel=status%3A%2A&channel=user%3A{self.ann.pk}&last_event_id={current_cursor()}",
            )

    @override_settings(OUTBOX=PUBLIC)
    def test_who_is_not_logged_in_gets_the_public_channels(self):
        expected = f"/events?channel=news&channel=status%3A%2A&last_event_id={current_cursor()}"
        self.assertEqual(render("{% outbox_url %}", user=self.nobody), expected)

    def test_where_there_is_nothing_to_read_the_address_is_empty_and_the_database_is_not_asked(self):
        text = "{% outbox_url as url %}{% if url %}{{ url }}{% else %}none{% endif %}"
        with CaptureQueriesContext(connection) as queries:
            self.assertEqual(render("{% outbox_url %}", user=self.nobody), "")
            self.assertEqual(render(text, user=self.nobody), "none")
        self.assertEqual(len(queries), 0)
        self.assertIn("/events?channel=user", render(text, user=self.ann))

    def test_the_user_is_the_request_s_where_the_context_has_none(self):
        request = RequestFactory().get("/")
        for user, expected in [(self.ann, f"channel=user%3A{self.ann.pk}&"), (self.nobody, "")]:
            request.user = user
            self.assertIn(expected, render("{% outbox_url %}", request=request))
            self.assertEqual(render("{% outbox_url %}", request=request) == "", expected == "")

    def test_a_context_without_a_user_is_told_of_unless_the_channels_are_named(self):
        for tag in ("outbox_url", "outbox_script"):
            for context in ({}, {"request": RequestFactory().get("/")}):
                with self.subTest(tag=tag), self.assertRaisesMessage(ImproperlyConfigured, "render(request, …)"):
                    render(f"{{% {tag} %}}", **context)
        self.assertIn("channel=news&", render('{% outbox_url "news" %}'))

    def test_a_channel_without_a_name_is_told_of(self):
        with self.assertRaisesMessage(ValueError, "a variable is not in the context"):
            render("{% outbox_url nothing %}")

    def test_the_script_is_for_who_is_logged_in(self):
        self.assertIn('data-token-url="/outbox/token"', render("{% outbox_script %}", user=self.ann))
        self.assertEqual(render("{% outbox_script %}", user=self.nobody), "")
