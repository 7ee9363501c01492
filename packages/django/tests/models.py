from django.db import models

from outbox import publish_model


class Order(models.Model):
    """Something whose changes are published. The foreign key is deferred, as Django makes them."""

    parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE)
    status = models.CharField(max_length=20, default="placed")

    def __str__(self):
        return f"order {self.pk}"


@publish_model(channel=lambda parcel: f"parcel:{parcel.pk}")
class Parcel(models.Model):
    """Published by its decorator, as that is without options."""

    place = models.CharField(max_length=20)

    def __str__(self):
        return f"parcel {self.pk}"
