#!/usr/bin/env bash
# Sends generated requests, valid and invalid, to every operation of the live OpenAPI document, and compares the answers
# with the document (schemathesis). The argument says who sends them: admin, users (two, who must not see each other's
# objects) or anonymous. Further arguments go to schemathesis: --max-examples 400.
# Needs BASE_URL, ADMIN_TOKEN, USER_TOKEN, OTHER_TOKEN, WORKSPACE_ID, BILLING_CONTACT_ID, SESSION_ID and PLAN_ID, and what
# `make target/clients/venv/bin/schemathesis` installs.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
own=$(mktemp -d)
trap 'rm -rf "$own"' EXIT

user() {
    printf '{"name": "%s", "fixedHeaders": [{"name": "Authorization", "value": "Bearer %s"}]}' "$1" "$2"
}
printf '{"auth": [%s, %s, %s]}' "$(user admin "$ADMIN_TOKEN")" "$(user ada "$USER_TOKEN")" "$(user bo "$OTHER_TOKEN")" \
    >"$own/users.json"
sed -e "s|{hooks}|$root/tests/clients/hooks.py|" -e "s|{users}|$own/users.json|" -e "s|{workspace_id}|$WORKSPACE_ID|" \
    -e "s|{billing_contact_id}|$BILLING_CONTACT_ID|" -e "s|{session_id}|$SESSION_ID|" \
    -e "s|{plan_id}|$PLAN_ID|" \
    "$root/tests/clients/schemathesis.toml" >"$own/schemathesis.toml"

case $1 in
admin) options=(--config-file "$own/schemathesis.toml" run --auth-wfc-user admin) ;;
users) options=(--config-file "$own/schemathesis.toml" run --auth-wfc-user ada) ;;
anonymous) options=(--config-file "$root/tests/clients/anonymous.toml" run) ;;
*)
    echo "who sends the requests? admin, users or anonymous, not $1" >&2
    exit 2
    ;;
esac
# hypothesis and schemathesis write into the current directory
cd "$own"
# without a cache of hooks.py beside it
PYTHONDONTWRITEBYTECODE=1 "$root/target/clients/venv/bin/schemathesis" "${options[@]}" --no-color "${@:2}" \
    "$BASE_URL/openapi.json"
