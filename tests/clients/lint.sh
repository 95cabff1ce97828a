#!/usr/bin/env bash
# Lints the live OpenAPI document. Needs BASE_URL, and what `make target/clients/node_modules/.package-lock.json`
# installs.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
# the linter would otherwise look for updates and send statistics
export REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true
"$root/target/clients/node_modules/.bin/redocly" lint "$BASE_URL/openapi.json" \
    --config "$root/tests/clients/redocly.yaml"
