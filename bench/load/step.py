"""Load in steps: each a few more users for a while, to see at which one latency leaves the ground.

    locust -f bench/load/step.py --headless --csv steps
    LOAD_USERS=chat LOAD_STEP=10 LOAD_STEP_SECONDS=30 LOAD_STEPS=8 locust -f bench/load/step.py --headless --csv steps

LOAD_USERS is `api` (locustfile.py) or `chat` (chat.py). Ends by itself. Look at the history file step by step: the totals
of such a run are a mean over loads that have nothing to do with each other.
"""

import os

from locust import LoadTestShape

if os.environ.get("LOAD_USERS", "api") == "chat":
    from chat import ChatUser   # noqa: F401
else:
    from locustfile import Client   # noqa: F401

STEP = int(os.environ.get("LOAD_STEP", "20"))
STEP_SECONDS = float(os.environ.get("LOAD_STEP_SECONDS", "20"))
STEPS = int(os.environ.get("LOAD_STEPS", "6"))


class Steps(LoadTestShape):
    def tick(self):
        """Users and how many are started a second; None ends the run."""
        step = int(self.get_run_time() // STEP_SECONDS)
        return (STEP * (step + 1), STEP) if step < STEPS else None
