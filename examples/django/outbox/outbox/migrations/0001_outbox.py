from django.db import migrations, models
from django.db.models.functions import Now

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
                (
                    "created_at",
                    models.GeneratedField(db_persist=True, expression=Now(), output_field=models.DateTimeField()),
                ),
                (
                    "position",
                    models.GeneratedField(
                        db_persist=True,
                        expression=models.Value(None, output_field=models.BigIntegerField()),
                        output_field=models.BigIntegerField(null=True),
                    ),
                ),
            ],
            options={"db_table": "outbox", "managed": False},
        ),
    ]
