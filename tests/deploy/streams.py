"""Clients whose answers can be watched while they come."""

import http.client
import json

from waiting import DEADLINE

# Many evaluations: it runs for seconds.
LONG = {
    "prompt": "import os\n", "max_tokens": 150, "seed": 1, "stream": True, "ignore_eos": True,
    "diffusion": {"steps": 512, "stream_states": "delta"},
}
# A short answer, of fewer bytes than any balancer's buffer, whose evaluations take long.
SHORT = {
    "prompt": "x = 1\n" * 40, "max_tokens": 6, "seed": 1, "stream": True, "ignore_eos": True,
    "diffusion": {"preset": "exact", "stream_states": "delta"},
}
STEP = '"type":"step"'


class Stream:
    """A stream of events, read line by line."""

    def __init__(self, address, body, path="/v1/completions"):
        host, port = address.split(":")
        self.connection = http.client.HTTPConnection(host, int(port), timeout=DEADLINE)
        self.connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        self.response = self.connection.getresponse()
        assert self.response.status == 200, self.response.read()

    def next(self):
        """The data of the next event; nothing at the end."""
        while line := self.response.readline():
            if line.startswith(b"data: "):
                return line[6:].strip().decode()
        return None

    def rest(self):
        """All events to the end, and whether it was a clean one."""
        events = []
        try:
            while (data := self.next()) is not None:
                events.append(data)
        except (http.client.HTTPException, OSError):
            return events, False
        return events, events[-1:] == ["[DONE]"]


def content(events):
    """Events without what differs between two answers to one request."""
    parsed = [json.loads(event) for event in events if event != "[DONE]"]
    for event in parsed:
        event.pop("id", None)
        event.pop("created", None)
        for times in ("queue_ms", "denoise_ms", "batch_peak"):
            event.get("diffusion", {}).pop(times, None)
    return parsed
