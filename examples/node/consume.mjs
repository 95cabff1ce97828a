// Stores a document and consumes its words in one transaction: both, or neither. Node.js 20, pg 8.
//
//     DATABASE_URL=postgres://… node consume.mjs WORKSPACE_ID WORDS [DOCUMENT_ID]
//
// Copy what is above main(), and replace the INSERT by what your product writes. The errors are explained in
// examples/README.md.

import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'

import pg from 'pg'

const ATTEMPTS = 5

// After these errors the same transaction may succeed: serialization failure, deadlock, server shutdown or start.
const REPEATABLE = new Set(['40001', '40P01', '57P01', '57P02', '57P03'])

// billing.consume refused the document: nothing is stored, and nothing is consumed.
export class Refused extends Error {
  constructor(error) {
    super(error.message, { cause: error })
    this.code = error.code // LM001, LM002 …
    this.detail = error.detail
  }
}

// Stores the document and consumes its words, and repeats that if it met another transaction or lost its connection.
//
// document: { workspaceId, id, words }. The id is made once, before the first attempt. If the client of your product
// makes it, the client can repeat its request too.
//
// Returns how many words the workspace has left as a BigInt, null if they are unlimited. Throws Refused, which is never
// repeated, or the error of pg.
export async function store(pool, document) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await storeOnce(pool, document)
    } catch (error) {
      if (error instanceof pg.DatabaseError && error.code.startsWith('LM')) throw new Refused(error)
      if (attempt === ATTEMPTS || !isRepeatable(error)) throw error
    }
    // up to 0.1, 0.2, 0.4 and 0.8 s: random, so that two transactions that met do not meet again
    await sleep(Math.random() * 50 * 2 ** attempt)
  }
}

// One attempt, as one transaction on a connection of its own.
async function storeOnce(pool, { workspaceId, id, words }) {
  const client = await pool.connect()
  // pg also emits the loss of a connection as an event, which would end the process without this
  client.on('error', ignore)
  let lost
  try {
    await client.query('BEGIN')
    // the connection may be lost after the server has committed, so a second attempt may find the row of the first
    await client.query('INSERT INTO documents (workspace_id, id, words) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING', [
      workspaceId,
      id,
      words,
    ])
    // last, because it locks the balance until the commit. The idempotency key is the same in every attempt
    const result = await client.query("SELECT billing.consume($1, 'words', $2, $3) AS remaining", [
      workspaceId,
      words,
      id,
    ])
    await client.query('COMMIT')
    const { remaining } = result.rows[0]
    // pg returns a bigint as a string, because a Number is exact only up to 2^53
    return remaining === null ? null : BigInt(remaining)
  } catch (error) {
    await client.query('ROLLBACK').catch((failed) => {
      lost = failed
    })
    throw error
  } finally {
    client.off('error', ignore)
    // with an error, the pool closes the connection instead of using it again
    client.release(lost)
  }
}

function ignore() {}

// An error that is not the server's is a lost connection, or none could be made.
function isRepeatable(error) {
  return !(error instanceof pg.DatabaseError) || REPEATABLE.has(error.code) || error.code.startsWith('08')
}

// What a product may say to its user.
export function reason(refused) {
  switch (refused.code) {
    case 'LM001':
      return `only ${refused.detail} words are left`
    case 'LM002':
      return `the subscription is not active: ${refused.detail}`
    case 'LM003':
      return 'there is no subscription'
    case 'LM004':
      return 'the plan includes no words'
    case 'LM008':
      return 'the plan is not known yet, try again in a minute'
    default:
      // all others are errors of the product or of the plan: log them
      return refused.message
  }
}

async function main([workspaceId, words, id = randomUUID()]) {
  const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL })
  // a connection that is lost while it is idle would end the process without this
  pool.on('error', (error) => console.error(`lost an idle connection: ${error.message}`))
  try {
    const remaining = await store(pool, { workspaceId, id, words })
    console.log(`stored ${id}, words left: ${remaining ?? 'unlimited'}`)
  } catch (error) {
    if (!(error instanceof Refused)) throw error
    console.error(`not stored: ${error.code}, ${reason(error)}`)
    process.exitCode = 1
  } finally {
    await pool.end()
  }
}

await main(process.argv.slice(2))
