"""A quiet load, a sudden crowd, and quiet again: what the crowd costs those who were there before, and how long it lasts.

    locust -f bench/load/spike.py --headless --csv spike
    LOAD_USERS=chat LOAD_QUIET=5 LOAD_CROWD=100 locust -f bench/load/spike.py --headless --csv spike

LOAD_USERS is `api` (locustfile.py) or `chat` (chat.py). Ends by itself after LOAD_SECONDS (30, 20, 40: quiet, crowd, quiet).
"""

import os

from locust import LoadTestShape

if os.environ.get("LOAD_USERS", "api") == "chat":
    from chat import ChatUser   # noqa: F401
else:
    from locustfile import Client   # noqa: F401

QUIET = int(os.environ.get("LOAD_QUIET", "10"))
CROWD = int(os.environ.get("LOAD_CROWD", "200"))
SECONDS = [float(word) for word in os.environ.get("LOAD_SECONDS", "30,20,40").split(",")]


class Spike(LoadTestShape):
    def tick(self):
        """Users and how many are started a second; None ends the run."""
        at = self.get_run_time()
        for seconds, users in zip(SECONDS, (QUIET, CROWD, QUIET)):
            if at < seconds:
                return users, max(CROWD, QUIET)     # all at once: a crowd does not queue at the door
            at -= seconds
        return None
