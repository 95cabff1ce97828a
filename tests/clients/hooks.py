"""What fuzz.sh sends and expects beyond the OpenAPI document; loaded by schemathesis."""

from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData

HEADER = "Idempotency-Key"


@schemathesis.hook
def before_call(context, case, kwargs):
    """Uses each valid idempotency key once, because a key of another request is refused."""
    if HEADER in case.headers and case.meta is not None and case.meta.generation.mode.is_positive:
        case.headers[HEADER] = f"{case.headers[HEADER][:200]}-{uuid4()}"


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Accepts that an empty query parameter counts as absent, which OpenAPI cannot express."""
    query = parse_qsl(urlsplit(response.request.url).query, keep_blank_values=True)
    return not (isinstance(failure, AcceptedNegativeData) and any(value == "" for _, value in query))
