"""LaunchDarkly's client, which comes back by itself when it is told to."""

import sys

from ld_eventsource import SSEClient
from ld_eventsource.config import ConnectStrategy, ErrorStrategy
from report import report

client = SSEClient(ConnectStrategy.http(sys.argv[1]), error_strategy=ErrorStrategy.always_continue())
for event in client.events:
    report(event.event, event.last_event_id, event.data)
