#!/usr/bin/env bash
# The curl lines of the public API pages, for the endpoints that are served. Each is as on its page; only the base URL
# and the placeholders are replaced. Prints endpoint, status and body of each; tests/it/api/clients.rs checks them.
# Needs BASE_URL, USER_TOKEN, WORKSPACE_ID, BILLING_CONTACT_ID, SESSION_ID and PLAN_ID. Values that are only "string" or 0
# on the page, but must be a URL, a plan or an address, are replaced as well.
set -euo pipefail

curl() {
    command curl --silent --show-error --max-time 30 --write-out '\n%{http_code}' "$@"
}

# Runs the curl line on standard input.
run() {
    local endpoint=$1 line reply
    line=$(sed -e "s|https://app.neuroflash.com/api/workspace-service|$BASE_URL|" \
        -e "s|YOUR_ACCESS_TOKEN|$USER_TOKEN|" -e "s|{workspace_id}|$WORKSPACE_ID|" \
        -e "s|{billing_contact_id}|$BILLING_CONTACT_ID|" -e "s|{session_id}|$SESSION_ID|" \
        -e 's|"callbackUrl": "string"|"callbackUrl": "https://app.example.com/paid"|' \
        -e "s|\"pricingPlanId\": \"string\"|\"pricingPlanId\": \"$PLAN_ID\"|" \
        -e 's|"legacyPricingPlanId": 0|"legacyPricingPlanId": null|' \
        -e 's|"email": "string"|"email": "max.mustermann@example.com"|')
    reply=$(eval "$line")
    body=${reply%$'\n'*}
    printf '%s %s %s\n' "$endpoint" "${reply##*$'\n'}" "$body"
}

run A2 <<'LINE'
curl "https://app.neuroflash.com/api/workspace-service/v1/workspaces/{workspace_id}/billing-contacts/{billing_contact_id}" \
-H "Authorization: Bearer YOUR_ACCESS_TOKEN"
LINE

run A3 <<'LINE'
curl "https://app.neuroflash.com/api/workspace-service/v1/workspaces/{workspace_id}/billing-contacts/{billing_contact_id}/stripe-checkout-sessions/{session_id}" \
-H "Authorization: Bearer YOUR_ACCESS_TOKEN"
LINE

run A1 <<'LINE'
curl -X POST "https://app.neuroflash.com/api/workspace-service/v1/workspaces/{workspace_id}/billing-contacts/{billing_contact_id}/stripe-checkout-sessions" \
-H "Authorization: Bearer YOUR_ACCESS_TOKEN" \
-H "Content-Type: application/json" \
-d '{
"callbackUrl": "string",
"language": "string",
"legacyPricingPlanId": 0,
"pricingPlanId": "string"
}'
LINE

run A4 <<'LINE'
curl -X PUT "https://app.neuroflash.com/api/workspace-service/v1/workspaces/{workspace_id}/billing-contacts/{billing_contact_id}" \
-H "Authorization: Bearer YOUR_ACCESS_TOKEN" \
-H "Content-Type: application/json" \
-d '{
"activeDiscount": "string",
"addressLine1": "string",
"addressLine2": "string",
"city": "string",
"country": "string",
"defaultPaymentCardNumberLastFourDigits": "string",
"defaultPaymentMethod": "string",
"defaultPaymentMethodCardBrand": "string",
"email": "string",
"name": "string",
"postalCode": "string",
"state": "string"
}'
LINE

run B1 <<'LINE'
curl -X POST "https://app.neuroflash.com/api/workspace-service/v1/workspaces" \
-H "Authorization: Bearer YOUR_ACCESS_TOKEN" \
-H "Content-Type: application/json" \
-d '{
"name": "string"
}'
LINE
# B5 deletes the new workspace, because the other one has a subscription
created=$(sed 's/.*"id":"\([^"]*\)".*/\1/' <<<"$body")

run B2 <<'LINE'
curl "https://app.neuroflash.com/api/workspace-service/v1/workspaces" \
-H "Authorization: Bearer YOUR_ACCESS_TOKEN"
LINE

run B3 <<'LINE'
curl "https://app.neuroflash.com/api/workspace-service/v1/workspaces/{workspace_id}" \
-H "Authorization: Bearer YOUR_ACCESS_TOKEN"
LINE

run B4 <<'LINE'
curl -X PUT "https://app.neuroflash.com/api/workspace-service/v1/workspaces/{workspace_id}" \
-H "Authorization: Bearer YOUR_ACCESS_TOKEN" \
-H "Content-Type: application/json" \
-d '{
"name": "string"
}'
LINE

WORKSPACE_ID=$created
run B5 <<'LINE'
curl -X DELETE "https://app.neuroflash.com/api/workspace-service/v1/workspaces/{workspace_id}" \
-H "Authorization: Bearer YOUR_ACCESS_TOKEN"
LINE
