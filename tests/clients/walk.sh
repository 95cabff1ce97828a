#!/usr/bin/env bash
# Generates types from the live OpenAPI document, compiles walk.ts with them in strict mode, and runs it.
# Needs BASE_URL, ADMIN_TOKEN, USER_TOKEN, OTHER_TOKEN, WEBHOOK_URL and WEBHOOK_SECRET, and what
# `make target/clients/node_modules/.package-lock.json` installs.
set -euo pipefail
cd "$(dirname "$0")/../../target/clients"
rm -rf build api.ts
# the compiler and Node.js look for packages in the folders above a file
cp ../../tests/clients/{tsconfig.json,walk.ts,webhooks.ts} .
node_modules/.bin/openapi-typescript "$BASE_URL/openapi.json" --output api.ts
node_modules/.bin/tsc
node build/walk.js
