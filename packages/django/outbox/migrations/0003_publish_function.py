from django.db import migrations

from outbox.schema import RunOutboxSQL


class Migration(migrations.Migration):
    dependencies = [("outbox", "0002_storage")]

    operations = [RunOutboxSQL("3_publish_function")]
