"""A page and the stream from its cursor are of one moment. What concurrent writers make of that is tested with a relay."""

from threading import Thread

from django.db import InternalError, connection, transaction
from django.db.transaction import TransactionManagementError
from django.template import Context, Template, engines
from django.template.response import TemplateResponse
from django.test import RequestFactory, TestCase, TransactionTestCase

from outbox import current_cursor, publish, snapshot
from outbox.models import Event
from tests.hanging import hanging_commit


def elsewhere(function):
    """Runs it on a connection of its own, to its end."""

    def run():
        function()
        connection.close()

    thread = Thread(target=run)
    thread.start()
    thread.join()


def render(text, **context):
    return Template("{% load outbox %}" + text).render(Context(context))


class CursorTest(TransactionTestCase):
    def test_the_cursor_is_the_newest_event_in_commit_order(self):
        publish("a", 1)
        with transaction.atomic():
            early = publish("a", "drawn first, committed last")
            elsewhere(lambda: publish("a", 2))
        self.assertEqual(current_cursor(), str(early.pk))
        Event.objects.all().delete()
        self.assertEqual(current_cursor(), str(early.pk))

    def test_an_event_that_has_not_committed_is_not_in_the_cursor(self):
        before = publish("a", 1)
        with transaction.atomic():
            publish("a", 2)
            self.assertEqual(current_cursor(), str(before.pk))

    def test_a_snapshot_reads_all_of_one_moment(self):
        for use in ("context manager", "decorator", "decorator with options", "template response"):
            with self.subTest(use=use):
                before = publish("a", 1)

                def read(request=None):
                    count = Event.objects.count()
                    elsewhere(lambda: publish("a", 2))
                    return count, Event.objects.count(), current_cursor()

                if use == "context manager":
                    with snapshot():
                        first, then, cursor = read()
                elif use == "decorator":
                    first, then, cursor = snapshot(read)(None)
                elif use == "decorator with options":
                    first, then, cursor = snapshot(using="default")(read)(None)
                else:
                    template = engines["django"].from_string(
                        "{{ first }} {{ events.count }} {% load outbox %}{% outbox_cursor %}"
                    )

                    @snapshot
                    def view(request, template=template):
                        first, *_ = read()
                        return TemplateResponse(request, template, {"first": first, "events": Event.objects.all()})

                    first, then, cursor = view(RequestFactory().get("/")).content.decode().split()
                self.assertEqual((first, cursor), (then, str(before.pk)))

    def test_a_snapshot_writes_nothing(self):
        with self.assertRaises(InternalError), snapshot():
            publish("a", 1)

    def test_a_snapshot_inside_of_another_transaction_is_refused(self):
        with transaction.atomic(), self.assertRaisesMessage(TransactionManagementError, "outermost"), snapshot():
            pass

    def test_the_decorator_takes_its_view_out_of_atomic_requests(self):
        view = snapshot(lambda request: None)
        self.assertEqual(view._non_atomic_requests, {"default"})

    def test_a_snapshot_leaves_out_what_it_shows_although_a_commit_under_way_comes_before(self):
        before = publish("a", 1)
        with hanging_commit(lambda: publish("a", "late")):
            shown = [publish("a", 2), publish("a", 3)]
            self.assertEqual(current_cursor(), str(before.pk))
            with snapshot() as cursor:
                self.assertEqual(cursor, f"{before.pk}!{shown[0].pk},{shown[1].pk}")
                self.assertEqual(current_cursor(), cursor)
                self.assertEqual(render("{% outbox_cursor %}"), cursor)
            self.assertEqual(current_cursor(), str(before.pk))
        self.assertEqual(current_cursor(), str(shown[1].pk))


class TagsTest(TestCase):
    def test_the_cursor_stands_in_the_page(self):
        self.assertEqual(render("{% outbox_cursor %}"), current_cursor())

    def test_a_snapshot_works_in_a_test_case(self):
        with snapshot():
            self.assertEqual(render("{% outbox_cursor %}"), current_cursor())
        publish("a", 1)
