#!/usr/bin/env bash
# Lints the live OpenAPI document. Needs BASE_URL, and what `make target/clients/node_modules` installs.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
# the linter would ask its makers for news and send them statistics
export REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true
"$root/target/clients/node_modules/.bin/redocly" lint "$BASE_URL/openapi.json" --config "$root/tests/clients/redocly.yaml"
