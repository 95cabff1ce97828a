// A minimal HTTP server around Supabase's stripe-sync-engine, which is a library: a POST is one call of
// `processWebhook`, and GET returns the number of attempted calls of Stripe's API. Started by main.rs with the folder of
// node_modules as the working directory.
import http from 'node:http'
import https from 'node:https'
import { createRequire, syncBuiltinESMExports } from 'node:module'

const require = createRequire(`${process.cwd()}/`)
const { StripeSync, runMigrations } = require('@supabase/stripe-sync-engine')

// Stripe is never called: a request to another machine fails and is counted.
let calls = 0
https.request = () => {
  calls += 1
  throw new Error('no Stripe here')
}
syncBuiltinESMExports()

const databaseUrl = process.env.DATABASE_URL
await runMigrations({ databaseUrl, schema: 'stripe', logger: { info() {}, error: console.error } })
const sync = new StripeSync({
  poolConfig: { connectionString: databaseUrl },
  schema: 'stripe',
  stripeSecretKey: 'sk_test_bench',
  stripeWebhookSecret: process.env.STRIPE_WEBHOOK_SECRET,
})

let failures = 0
const answer = (response, status, text) => response.writeHead(status, { 'content-length': text.length }).end(text)

http
  .createServer((request, response) => {
    if (request.method === 'GET') {
      return answer(response, calls === 0 ? 200 : 500, `${calls}`)
    }
    const chunks = []
    request.on('data', (chunk) => chunks.push(chunk))
    request.on('end', () => {
      sync.processWebhook(Buffer.concat(chunks), request.headers['stripe-signature']).then(
        () => answer(response, 200, 'ok'),
        (error) => {
          failures += 1
          if (failures === 1) console.error(error)
          answer(response, 400, 'failed')
        },
      )
    })
  })
  .listen(Number(process.env.PORT), '127.0.0.1')
