from django.db import migrations

from outbox.schema import RunOutboxSQL


class Migration(migrations.Migration):
    dependencies = [("outbox", "0001_outbox")]

    operations = [RunOutboxSQL("2_storage")]
