"""What of an event would arrive."""

from django.db import connection


def delivered(event):
    """What the relay would send: the text of a JSON string, JSON of anything else."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT CASE WHEN data = 'null' THEN 'null' ELSE coalesce(data #>> '{}', 'null') END "
            "FROM outbox WHERE id = %s",
            [event.pk],
        )
        return cursor.fetchone()[0]
