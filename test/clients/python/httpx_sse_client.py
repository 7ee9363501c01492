"""httpx-sse, with the loop that its documentation leaves to the application."""

import sys
import time

import httpx
from httpx_sse import SSEError, connect_sse
from report import report

url = sys.argv[1]
cursor = None
pause = 2.0
with httpx.Client(timeout=httpx.Timeout(5, read=60)) as client:
    while True:
        try:
            headers = {"Last-Event-ID": cursor} if cursor else {}
            with connect_sse(client, "GET", url, headers=headers) as source:
                for event in source.iter_sse():
                    cursor = event.id or cursor
                    if event.retry is not None:
                        pause = event.retry / 1000
                    report(event.event, event.id, event.data)
        except (httpx.TransportError, SSEError):
            pass
        time.sleep(pause)
