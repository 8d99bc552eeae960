#!/usr/bin/env python3
"""Prints every alert that Alertmanager sends to it, a line each; listens on port 8081."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver(BaseHTTPRequestHandler):
    """Takes Alertmanager's webhook."""

    def do_POST(self) -> None:
        """Print the alerts of a notification."""
        notification = json.loads(self.rfile.read(int(self.headers["content-length"])))
        for alert in notification["alerts"]:
            labels, annotations = alert["labels"], alert["annotations"]
            severity = labels.get("severity", "none")
            words = (alert["status"].upper(), severity, labels["alertname"], annotations.get("summary", ""))
            sys.stdout.write(" ".join(words) + "\n")
        sys.stdout.flush()
        self.send_response(204)
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing of the requests themselves."""


if __name__ == "__main__":
    ThreadingHTTPServer(("", 8081), Receiver).serve_forever()
