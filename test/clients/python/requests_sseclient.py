"""requests and sseclient-py, with the loop that its documentation leaves to the application."""

import sys
import time

import requests
import sseclient
from report import report

url = sys.argv[1]
cursor = None
pause = 2.0
while True:
    try:
        headers = {"Accept": "text/event-stream"}
        if cursor:
            headers["Last-Event-ID"] = cursor
        response = requests.get(url, stream=True, headers=headers, timeout=(5, 60))
        response.raise_for_status()
        for event in sseclient.SSEClient(response).events():
            cursor = event.id or cursor
            if event.retry:
                pause = int(event.retry) / 1000
            report(event.event, event.id, event.data)
    except requests.RequestException:
        pass
    time.sleep(pause)
