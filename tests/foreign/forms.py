"""Compare forms with the parameters that Stripe's own Python library declares and sends.

    python forms.py API_VERSION FORMS FORMS_OF_THE_FAKE

Each line of a file is `operation method path form`. Every field must be declared by the library: its name at each
depth, its type, and its value if the library lists the values. A form of the client must also have the required fields,
and must be the request that the library sends for the same parameters. A form of the fake contains one field that the
fake Stripe accepts.

API_VERSION is the version that the client sends. The library must be of the same major version and not older, because
later versions only add parameters and values until the next major one.

Exits with 1 and a line for each difference. Before that, it plants mistakes and expects to find them.
"""

import re
import sys
from decimal import Decimal
from typing import Any, Dict, List, Literal, Mapping, Union, get_args, get_origin, get_type_hints
from types import UnionType
from urllib.parse import parse_qsl, urlsplit

import stripe
from stripe import params
from stripe._request_options import RequestOptions
from stripe.params import checkout

# operation: type of the parameters, pattern of the path, and the library's call
OPERATIONS = {
    "customer.create": (
        params.CustomerCreateParams,
        "/v1/customers",
        lambda api, form: api.customers.create(form),
    ),
    "customer.update": (
        params.CustomerModifyParams,
        "/v1/customers/([^/]+)",
        lambda api, id, form: api.customers.update(id, form),
    ),
    "checkout_session.create": (
        checkout.SessionCreateParams,
        "/v1/checkout/sessions",
        lambda api, form: api.checkout.sessions.create(form),
    ),
    "payment_link.create": (
        params.PaymentLinkCreateParams,
        "/v1/payment_links",
        lambda api, form: api.payment_links.create(form),
    ),
    "payment_link.update": (
        params.PaymentLinkModifyParams,
        "/v1/payment_links/([^/]+)",
        lambda api, id, form: api.payment_links.update(id, form),
    ),
    "subscription.cancel": (
        params.SubscriptionCancelParams,
        "/v1/subscriptions/([^/]+)",
        lambda api, id, form: api.subscriptions.cancel(id, form),
    ),
    "webhook_endpoint.create": (
        params.WebhookEndpointCreateParams,
        "/v1/webhook_endpoints",
        lambda api, form: api.webhook_endpoints.create(form),
    ),
    "webhook_endpoint.update": (
        params.WebhookEndpointModifyParams,
        "/v1/webhook_endpoints/([^/]+)",
        lambda api, id, form: api.webhook_endpoints.update(id, form),
    ),
}

# options of the library, which it sends as headers
OPTIONS = set(RequestOptions.__annotations__)
# names in the annotations of these options that their modules import for type checkers only
UNIMPORTED = {"Mapping": Mapping, "StripeContext": object}


def parse(form: str) -> dict:
    """Nested parameters of a form. Arrays are hashes with the indexes as names."""
    nested: dict = {}
    for name, value in parse_qsl(form, keep_blank_values=True, strict_parsing=bool(form)):
        if not re.fullmatch(r"\w+(\[[^\[\]]+\])*", name):
            raise ValueError(f"unsupported name: {name}")
        *holders, last = re.findall(r"[^\[\]]+", name)
        holder = nested
        for key in holders:
            holder = holder.setdefault(key, {})
            if not isinstance(holder, dict):
                raise ValueError(f"{name} is a text and a hash")
        if last in holder:
            raise ValueError(f"{name} is repeated")
        holder[last] = value
    return nested


class Check:
    """Converts the texts of one form to the declared types, and collects the differences."""

    def __init__(self, requires_all: bool):
        self.requires_all = requires_all
        self.errors: list[str] = []

    def error(self, path: str, why: str) -> None:
        self.errors.append(f"{path or 'the form'}: {why}")

    def read(self, value: Any, declared: Any, path: str) -> Any:
        origin = get_origin(declared)
        if origin in (Union, UnionType):
            return self.one_of(value, get_args(declared), path)
        if origin is Literal:
            return self.literal(value, get_args(declared), path)
        if isinstance(declared, type) and issubclass(declared, dict) and hasattr(declared, "__required_keys__"):
            return self.hash(value, declared, path)
        if origin in (list, List):
            return self.array(value, get_args(declared)[0], path)
        if origin in (dict, Dict):
            return self.map(value, get_args(declared)[1], path)
        return self.scalar(value, declared, path)

    def one_of(self, value: Any, declared: tuple, path: str) -> Any:
        literals = [text for one in declared if get_origin(one) is Literal for text in get_args(one)]
        if value in literals:
            return value
        others = [one for one in declared if get_origin(one) is not Literal]
        if any(literals):
            # the library adds str to each list of values, for those of later versions
            others = [one for one in others if one is not str]
        attempts = []
        for one in others:
            attempt = Check(self.requires_all)
            read = attempt.read(value, one, path)
            if not attempt.errors:
                return read
            attempts.append(attempt.errors)
        if any(literals) and not others:
            self.literal(value, tuple(literals), path)
        elif isinstance(value, dict) and attempts:
            # the errors within the hash that fits best
            self.errors += min(attempts, key=lambda errors: any("is not" in error for error in errors))
        else:
            self.error(path, f"{value!r} is not one of the declared types")
        return value

    def literal(self, value: Any, known: tuple, path: str) -> Any:
        if value not in known:
            self.error(path, f"{value!r} is not one of {', '.join(map(repr, known))}")
        return value

    def hash(self, value: Any, declared: Any, path: str) -> Any:
        if not isinstance(value, dict):
            self.error(path, f"{value!r} is not a hash")
            return value
        fields = get_type_hints(declared, localns=UNIMPORTED)
        if not path:
            fields = {name: field for name, field in fields.items() if name not in OPTIONS}
        read = {}
        for name, given in value.items():
            within = f"{path}[{name}]" if path else name
            if name in fields:
                read[name] = self.read(given, fields[name], within)
            else:
                self.error(within, "unknown parameter")
        for name in sorted(declared.__required_keys__ - value.keys()) if self.requires_all else ():
            self.error(f"{path}[{name}]" if path else name, "missing")
        return read

    def array(self, value: Any, element: Any, path: str) -> Any:
        if not isinstance(value, dict) or list(value) != [str(index) for index in range(len(value))]:
            self.error(path, f"{value!r} is not an array")
            return value
        return [self.read(given, element, f"{path}[{index}]") for index, given in value.items()]

    def map(self, value: Any, element: Any, path: str) -> Any:
        if not isinstance(value, dict):
            self.error(path, f"{value!r} is not a hash")
            return value
        return {name: self.read(given, element, f"{path}[{name}]") for name, given in value.items()}

    def scalar(self, value: Any, declared: Any, path: str) -> Any:
        readers = {
            str: (r"[\s\S]*", str),
            int: (r"-?[0-9]+", int),
            bool: (r"true|false", lambda text: text == "true"),
            float: (r"-?[0-9]+(\.[0-9]+)?", float),
            Decimal: (r"-?[0-9]+(\.[0-9]+)?", Decimal),
        }
        pattern, convert = readers.get(declared, (None, None))
        if pattern is None or not isinstance(value, str) or not re.fullmatch(pattern, value):
            self.error(path, f"{value!r} is not a {getattr(declared, '__name__', declared)}")
            return value
        return convert(value)


class Recorder(stripe.HTTPClient):
    """Keeps the request that the library sends."""

    name = "recorder"

    def request(self, method, url, headers, post_data=None, **_):
        url = urlsplit(url)
        # the library sends the parameters of a DELETE in the query
        self.sent = method.upper(), url.path, sorted(parse_qsl(post_data or url.query, keep_blank_values=True))
        return "{}", 200, {}

    def close(self):
        pass


def compare(line: str, is_of_client: bool) -> list[str]:
    """The differences between a line and the library."""
    operation, method, path, form = (line.split(" ") + [""])[:4]
    if operation not in OPERATIONS:
        return [f"{operation} is not compared with anything: add it to OPERATIONS in tests/foreign/forms.py"]
    declared, pattern, call = OPERATIONS[operation]
    ids = re.fullmatch(pattern, path)
    if not ids:
        return [f"{path} is not {pattern}"]
    check = Check(requires_all=is_of_client)
    try:
        read = check.read(parse(form), declared, "")
    except ValueError as error:
        return [str(error)]
    if check.errors or not is_of_client:
        return check.errors
    recorder = Recorder()
    call(stripe.StripeClient("sk_test_x", http_client=recorder).v1, *ids.groups(), read)
    ours = method, path, sorted(parse_qsl(form, keep_blank_values=True))
    return [] if recorder.sent == ours else [f"the library sends {recorder.sent}, not {ours}"]


# a form, and the error that it must have; None if it has none
PLANTED = [
    ("payment_link.create POST /v1/payment_links", "line_items[0][quantity]=1", None),
    ("payment_link.create POST /v1/payment_links", "line_items[0][quantity]=1&line_items[0][lookup_keyy]=a",
     "line_items[0][lookup_keyy]: unknown parameter"),
    ("payment_link.create POST /v1/payment_links", "line_items[0][price]=price_1", "line_items[0][quantity]: missing"),
    ("payment_link.create POST /v1/payment_links", "active=true", "active: unknown parameter"),
    ("payment_link.create POST /v1/payment_links", "", "line_items: missing"),
    ("payment_link.create POST /v1/payment_links", "line_items[1][quantity]=1", "is not an array"),
    ("payment_link.create POST /v1/payment_links", "line_items[0][quantity]=1&after_completion[type]=redirectt",
     "after_completion[type]: 'redirectt' is not one of 'hosted_confirmation', 'redirect'"),
    ("payment_link.update POST /v1/payment_links/plink_1", "active=1", "active: '1' is not a bool"),
    ("payment_link.update POST /v1/payment_links", "active=true", "/v1/payment_links is not"),
    ("payment_link.update DELETE /v1/payment_links/plink_1", "active=true", "the library sends ('POST'"),
    ("checkout_session.create POST /v1/checkout/sessions", "ui_mode=custom", "ui_mode: 'custom' is not one of"),
    ("checkout_session.create POST /v1/checkout/sessions", "subscription_data[trial_period_days]=a",
     "subscription_data[trial_period_days]: 'a' is not a int"),
    ("checkout_session.create POST /v1/checkout/sessions", "subscription_data=a", "subscription_data: 'a' is not a hash"),
    ("customer.create POST /v1/customers", "idempotency_key=a", "idempotency_key: unknown parameter"),
    ("customer.create POST /v1/customers", "metadata[a][b]=c", "metadata[a]: {'b': 'c'} is not a str"),
    ("customer.create POST /v1/customers", "address[town]=a", "address[town]: unknown parameter"),
    ("customer.create POST /v1/customers", "address=", None),
    ("customer.create POST /v1/customers", "name=a&name=b", "name is repeated"),
    ("customer.delete DELETE /v1/customers/cus_1", "", "customer.delete is not compared"),
]


def self_test() -> list[str]:
    """The planted mistakes that are not found."""
    missed = []
    for line, form, expected in PLANTED:
        errors = compare(f"{line} {form}", is_of_client=True)
        if errors if expected is None else not any(expected in error for error in errors):
            missed.append(f"self-test: {line} {form}: expected {expected}, not {errors}")
    return missed


def main(version: str, forms: str, forms_of_the_fake: str) -> int:
    errors = self_test()
    (ours, our_major), (theirs, major) = version.split("."), stripe.api_version.split(".")
    if our_major != major or ours > theirs:
        errors.append(f"stripe {stripe.VERSION} is for {stripe.api_version}, the client for {version}: pin another one")
    for name, is_of_client in ((forms, True), (forms_of_the_fake, False)):
        with open(name, encoding="utf-8") as file:
            lines = file.read().splitlines()
        found = {line.split(" ")[0] for line in lines}
        errors += [f"{name}: no form of {missing}" for missing in sorted(OPERATIONS.keys() - found)]
        for number, line in enumerate(lines, 1):
            errors += [f"{name}:{number}: {error}" for error in compare(line, is_of_client)]
        print(f"{name}: {len(lines)} forms compared with stripe {stripe.VERSION}, {stripe.api_version}")
    print(*errors, sep="\n", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
