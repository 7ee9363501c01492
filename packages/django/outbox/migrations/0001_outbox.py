from django.db import migrations, models

import outbox.rules
from outbox.schema import RunOutboxSQL


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        RunOutboxSQL("1_outbox"),
        migrations.CreateModel(
            name="Event",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("channel", models.CharField(max_length=255)),
                ("event", models.CharField(default="message", max_length=255)),
                ("data", models.JSONField(blank=True, encoder=outbox.rules.Encoder, null=True)),
                ("created_at", models.DateTimeField(blank=True, editable=False)),
                ("position", models.BigIntegerField(blank=True, editable=False, null=True)),
                ("traceparent", models.TextField(blank=True, editable=False, null=True)),
            ],
            options={"base_manager_name": "objects", "db_table": "outbox", "managed": False},
        ),
    ]
