"""Mixed traffic as people's own load tests have it: mostly health checks, some requests, some computing.

    locust -f bench/load/locustfile.py --headless -u 200 -r 50 -t 30s

Debian has it as python3-locust. The demo (./build.sh run) answers all three on 127.0.0.1:8080.
"""

import random

from locust import HttpUser, between, task


class Client(HttpUser):
    host = "http://127.0.0.1:8080"
    wait_time = between(0.01, 0.1)

    @task(3)
    def health(self):
        self.client.get("/health")

    @task(2)
    def request(self):
        self.client.post("/api/requests", json={"user_id": random.randint(1, 1000), "action": "load-test"})

    @task(1)
    def compute(self):
        self.client.post("/api/compute", json={"n": 1000})
