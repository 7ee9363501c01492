"""Async code publishes by `await`, and what would wait there without it says so."""

from django.core.exceptions import SynchronousOnlyOperation
from django.test import TestCase, TransactionTestCase

from outbox import (
    abulk_publish,
    acurrent_cursor,
    apublish,
    asend_event,
    bulk_publish,
    current_cursor,
    notify,
    publish,
    send_event,
    snapshot,
)
from outbox.testing import captured_events
from tests.models import Parcel


class AsyncTest(TransactionTestCase):
    async def test_async_views_publish(self):
        async with captured_events() as events:
            answer = await self.async_client.get("/async/?text=hi")
        self.assertEqual([(e.channel, e.data) for e in events], [("news", "hi")])
        self.assertEqual(answer.json(), {"id": events[0].pk, "cursor": await acurrent_cursor()})

    async def test_each_call_that_publishes_has_one_to_await(self):
        async with captured_events() as events:
            one = await apublish("news", 1, "n")
            two, three = await abulk_publish([("news", 2), ("news", 3, "n")])
            await asend_event("news", "n", "4")
        self.assertEqual(events[:3], [one, two, three])
        self.assertEqual([event.data for event in events], [1, 2, 3, '"4"'])
        self.assertEqual(await acurrent_cursor(), str(events[-1].pk))

    async def test_a_model_that_is_saved_by_asave_is_published(self):
        async with captured_events() as events:
            parcel = await Parcel.objects.acreate(place="here")
            await parcel.adelete()
        self.assertEqual([event.event for event in events], ["parcel-created", "parcel-deleted"])

    async def test_what_waits_for_the_database_says_what_to_write_instead(self):
        for call, instead in [
            (lambda: publish("news"), "await apublish(…)"),
            (lambda: bulk_publish([]), "await abulk_publish(…)"),
            (lambda: send_event("news", "n", 1), "await asend_event(…)"),
            (lambda: notify("news", {"data": "1"}), "await apublish(channel, data, event)"),
            (current_cursor, "await acurrent_cursor()"),
            (snapshot().__enter__, "await sync_to_async(…)()"),
            (captured_events().__enter__, "async with captured_events()"),
        ]:
            with self.subTest(instead=instead), self.assertRaisesMessage(SynchronousOnlyOperation, instead):
                call()


class DecoratorTest(TestCase):
    def test_an_async_view_cannot_be_a_snapshot_and_is_told_at_once(self):
        async def orders(request):
            pass

        with self.assertRaisesMessage(TypeError, "the async function orders cannot hold"):
            snapshot(orders)
