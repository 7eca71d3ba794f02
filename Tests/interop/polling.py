"""Waiting for a condition, never for a time."""

import time


def eventually(condition, within, what):
    """The first true value of `condition()`, asked again and again; fails after `within` seconds.

    `what` says what was waited for: a text, or a function that describes how far it came.
    """
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            described = what() if callable(what) else what
            raise AssertionError(f"not within {within} s: {described}")
        time.sleep(0.02)
