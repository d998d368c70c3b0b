"""Waiting for what must happen."""

import time

# Seconds, long enough for anything on a busy machine; reaching it is a failure.
DEADLINE = 300


def until(what, condition, missing=lambda: ""):
    """Asks until the answer is not false, and returns it. `missing` says at the end what there was instead."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if answer := condition():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what} {missing()}")
