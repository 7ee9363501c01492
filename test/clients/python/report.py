"""Each message that a client hands to its application, as a line of JSON."""

import json


def report(name, event_id, data):
    print(json.dumps({"name": name or "message", "id": event_id or "", "data": data}), flush=True)
