"""Checks received webhooks with the Python library of Standard Webhooks.

A JSON list of {secret, headers, body} on standard input; for each, whether it
verifies, and whether one with another body does, on standard output.
"""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError


def verifies(secret, headers, body):
    try:
        Webhook(secret).verify(body, headers)
        return True
    except WebhookVerificationError:
        return False


received = json.load(sys.stdin)
print(
    json.dumps(
        [
            [
                verifies(one["secret"], one["headers"], one["body"]),
                verifies(one["secret"], one["headers"], one["body"] + " "),
            ]
            for one in received
        ]
    )
)
