"""Changes of the requests that fuzz.sh sends, loaded by schemathesis."""

from uuid import uuid4

import schemathesis

HEADER = "Idempotency-Key"


@schemathesis.hook
def before_call(context, case, kwargs):
    """Uses each valid idempotency key once, because a key of another request is refused."""
    if HEADER in case.headers and case.meta is not None and case.meta.generation.mode.is_positive:
        case.headers[HEADER] = f"{case.headers[HEADER][:200]}-{uuid4()}"
