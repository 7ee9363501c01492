"""The model over the table that outbox-relay's migrations make."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from outbox.rules import LONGEST_NAME, Encoder


class Event(models.Model):
    """An event: published when its transaction commits, delivered in the order of `position`.

    `created_at` and `position` are the database's alone. As generated fields they stay out of every INSERT, so a role that may
    insert `channel`, `event` and `data` and nothing else can publish. `position` is None until the commit.

    A row that is there is never sent again. Only its `data` may change, to redact it::

        Event.objects.filter(pk=41).update(data={"text": "(removed)"})
    """

    id = models.BigAutoField(primary_key=True)
    channel = models.CharField(max_length=LONGEST_NAME)
    event = models.CharField(max_length=LONGEST_NAME, default="message")
    data = models.JSONField(null=True, blank=True, encoder=Encoder)
    created_at = models.GeneratedField(expression=Now(), output_field=models.DateTimeField(), db_persist=True)
    position = models.GeneratedField(
        expression=models.Value(None, output_field=models.BigIntegerField()),
        output_field=models.BigIntegerField(null=True),
        db_persist=True,
    )

    class Meta:
        managed = False
        db_table = "outbox"

    def __str__(self) -> str:
        return f"{self.pk} {self.event} on {self.channel}"
