"""Recipe: an API made with Django REST framework publishes what it answers. No renderer, router or view of ours is needed."""

from unittest import skipUnless

from django.contrib.auth.models import User
from django.test import TestCase, override_settings
from django.urls import path

from outbox import publish
from outbox.testing import captured_events
from tests.models import Parcel

try:
    from rest_framework import generics, serializers
    from rest_framework.permissions import IsAuthenticated
except ImportError:
    urlpatterns = []
else:

    class ParcelSerializer(serializers.ModelSerializer):
        class Meta:
            model = Parcel
            fields = ["id", "place"]

    class Parcels(generics.ListCreateAPIView):
        queryset = Parcel.objects.all()
        serializer_class = ParcelSerializer
        permission_classes = [IsAuthenticated]

        def perform_create(self, serializer):
            serializer.save()
            publish(f"user:{self.request.user.pk}", serializer.data, event="parcel")

    urlpatterns = [path("parcels/", Parcels.as_view())]


@skipUnless(urlpatterns, "Django REST framework is not installed")
@override_settings(ROOT_URLCONF="tests.test_rest")
class RestTest(TestCase):
    def test_a_view_publishes_its_serializer_s_data_as_it_answers_it(self):
        ann = User.objects.create_user("ann")
        self.client.force_login(ann)
        with captured_events() as events:
            answer = self.client.post("/parcels/", {"place": "here"}, content_type="application/json")
        self.assertEqual(answer.status_code, 201)
        [event] = [event for event in events if event.event == "parcel"]
        self.assertEqual((event.channel, event.data), (f"user:{ann.pk}", answer.json()))

    def test_what_is_not_valid_or_not_allowed_publishes_nothing(self):
        with captured_events() as events:
            self.assertEqual(self.client.post("/parcels/", {"place": "here"}).status_code, 403)
            self.client.force_login(User.objects.create_user("ann"))
            self.assertEqual(self.client.post("/parcels/", {"place": "x" * 21}).status_code, 400)
        self.assertEqual(events, [])
