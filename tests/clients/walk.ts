// A workspace from its creation to its deletion, by a client whose types are generated from the live OpenAPI document:
// a field that is renamed there does not compile here. Prints a line for each step. walk.sh runs it.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";
import { Stripe } from "./webhooks.js";

type Workspace = components["schemas"]["Workspace"];

function setting(name: string): string {
  const value = process.env[name];
  assert(value, `${name} is not set`);
  return value;
}

const baseUrl = setting("BASE_URL");
const tokens = { owner: setting("USER_TOKEN"), other: setting("OTHER_TOKEN"), admin: setting("ADMIN_TOKEN") };
const clientOf = (token: string) =>
  createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });
const owner = clientOf(tokens.owner);

/** The body of an answer with this status. */
function expect<Data>(answer: { data?: Data; error?: unknown; response: Response }, status: number): Data {
  assert.equal(answer.response.status, status, JSON.stringify(answer.error));
  assert(answer.data !== undefined);
  return answer.data;
}

/** Checks that an answer is this problem. */
function problem(answer: { error?: components["schemas"]["Problem"]; response: Response }, code: string) {
  assert(answer.error, `${answer.response.status}, expected ${code}`);
  assert.equal(answer.error.code, code, answer.error.detail);
  assert.equal(answer.error.status, answer.response.status);
  assert.equal(answer.error.requestId, answer.response.headers.get("X-Request-Id"));
  return answer.error;
}

async function step<Result>(name: string, run: () => Promise<Result>): Promise<Result> {
  const result = await run();
  console.log(`ok ${name}`);
  return result;
}

const name = `Walk ${randomUUID()}`;

const made = await step("POST a workspace, twice with one Idempotency-Key", async () => {
  const request = { params: { header: { "Idempotency-Key": randomUUID() } }, body: { name } };
  const first = await owner.POST("/v1/workspaces", request);
  const workspace: Workspace = expect(first, 201);
  assert.equal(workspace.name, name);
  assert.equal(first.response.headers.get("Location"), `${new URL(baseUrl).pathname}/v1/workspaces/${workspace.id}`);
  const second = await owner.POST("/v1/workspaces", request);
  assert.deepEqual(expect(second, 201), workspace);
  assert.equal(second.response.headers.get("Idempotent-Replayed"), "true");
  problem(await owner.POST("/v1/workspaces", { ...request, body: { name: "Another" } }), "idempotency-key-reused");
  return workspace;
});
const path = { workspaceId: made.id };

await step("list it by its name and by its key", async () => {
  for (const search of [name.toUpperCase(), made.key ?? ""]) {
    const query = { search, sort: "updatedAt", order: "desc", size: 5, page: 1 } as const;
    const list = expect(await owner.GET("/v1/workspaces", { params: { query } }), 200);
    assert.deepEqual(list.data.map((workspace) => workspace.id), [made.id]);
    assert.deepEqual(list.page, { currentPage: 1, size: 5, totalElements: 1, totalPages: 1 });
  }
});

await step("GET it, and again with If-None-Match", async () => {
  const answer = await owner.GET("/v1/workspaces/{workspaceId}", { params: { path } });
  assert.deepEqual(expect(answer, 200), made);
  const header = { "If-None-Match": answer.response.headers.get("ETag") ?? "" };
  const same = await owner.GET("/v1/workspaces/{workspaceId}", { params: { path, header } });
  assert.equal(same.response.status, 304);
});

await step("PUT another name with If-Match", async () => {
  const before = await owner.GET("/v1/workspaces/{workspaceId}", { params: { path } });
  const header = { "If-Match": before.response.headers.get("ETag") ?? "" };
  const request = { params: { path, header }, body: { name: `${name} Ltd` } };
  const after = expect(await owner.PUT("/v1/workspaces/{workspaceId}", request), 200);
  assert.equal(after.name, `${name} Ltd`);
  assert.notEqual(after.updatedAt, null);
  problem(await owner.PUT("/v1/workspaces/{workspaceId}", request), "precondition-failed");
});

const consume = (key: string, amount: number, idempotencyKey = randomUUID()) =>
  owner.POST("/v1/workspaces/{workspaceId}/limits/{key}/consume", {
    params: { path: { ...path, key }, header: { "Idempotency-Key": idempotencyKey } },
    body: { amount },
  });

await step("nothing can be consumed before the customer subscribes", async () => {
  problem(await consume("words", 1), "no-subscription");
  const state = expect(await owner.GET("/v1/state", { params: { query: { workspace: made.id } } }), 200);
  assert.deepEqual([state.active, state.inactiveReason, state.limits], [false, "no_subscription", []]);
});

const stripe = new Stripe(setting("WEBHOOK_URL"), setting("WEBHOOK_SECRET"), made.id);

/** Waits until the state is so, and all events of the customer are applied. */
async function state(active: boolean) {
  let Prefer = "wait=10";
  for (const deadline = Date.now() + 30_000; Date.now() < deadline; ) {
    const params = { query: { workspace: made.id }, header: { Prefer } };
    const state = expect(await owner.GET("/v1/state", { params }), 200);
    if (state.active === active && state.pendingEvents === 0) return state;
    if (state.active === active) {
      // events that change nothing end no wait
      Prefer = "wait=0";
      await setTimeout(100);
    }
  }
  assert.fail(`the state does not become ${active ? "active" : "inactive"}`);
}

const events = await step("Stripe's webhooks make it active", async () => {
  const events = await stripe.subscribe();
  const { subscriptionId, billingContactId, stripeCustomerId, stripeStatus, limits, changedAt } = await state(true);
  assert(subscriptionId && billingContactId && changedAt);
  assert.deepEqual([stripeCustomerId, stripeStatus], [stripe.customer, "active"]);
  assert.deepEqual(limits.map((limit) => [limit.key, limit.available]), [["members", 3], ["words", 5000]]);
  const query = { customer: stripe.customer };
  const same = expect(await owner.GET("/v1/state", { params: { query } }), 200);
  assert.equal(same.workspaceId, made.id);
  return events;
});

const contact = await step("GET it with its contact, subscription and plan", async () => {
  const workspace = expect(await owner.GET("/v1/workspaces/{workspaceId}", { params: { path } }), 200);
  const { billingContact, currentSubscription } = workspace._embedded;
  assert(billingContact && currentSubscription);
  assert.equal(workspace.billingContactId, billingContact.id);
  assert.equal(workspace.currentSubscriptionId, currentSubscription.id);
  assert.deepEqual([billingContact.name, billingContact.city], ["Walk", "Berlin"]);
  assert.deepEqual([currentSubscription.active, currentSubscription.availableWords], [true, 5000]);
  const plan = currentSubscription._embedded.pricingPlan;
  assert.deepEqual([plan?.displayName, plan?.priceInEuro, plan?.pricePerCurrency["eur"]], ["Writing", 19.9, 19.9]);
  return billingContact;
});
const contactPath = { ...path, billingContactId: contact.id };

await step("GET the contact and the checkout session", async () => {
  const route = "/v1/workspaces/{workspaceId}/billing-contacts/{billingContactId}";
  assert.deepEqual(expect(await owner.GET(route, { params: { path: contactPath } }), 200), contact);
  const session = await owner.GET(`${route}/stripe-checkout-sessions/{sessionId}`, {
    params: { path: { ...contactPath, sessionId: stripe.session } },
  });
  const { status, language, callbackUrl, stripeSubscriptionId, _embedded } = expect(session, 200);
  assert.deepEqual([status, language, callbackUrl], ["complete", "de", "https://app.example.com/paid"]);
  assert.deepEqual([stripeSubscriptionId, _embedded.coupon], [stripe.subscription, null]);
});

await step("consume words, once for each Idempotency-Key", async () => {
  const key = randomUUID();
  assert.equal(expect(await consume("words", 1500, key), 200).available, 3500);
  assert.equal(expect(await consume("words", 1500, key), 200).available, 3500);
  const refused = problem(await consume("words", 3501), "limit-used-up");
  assert.equal(refused["available"], 3500);
  problem(await consume("images", 1), "no-such-limit");
});

await step("consume and release members", async () => {
  assert.equal(expect(await consume("members", 2), 200).available, 1);
  const release = (key: string, amount: number) =>
    owner.POST("/v1/workspaces/{workspaceId}/limits/{key}/release", {
      params: { path: { ...path, key } },
      body: { amount },
    });
  assert.equal(expect(await release("members", 1), 200).available, 2);
  problem(await release("members", 2), "release-exceeds-usage");
  problem(await release("words", 1), "limit-not-releasable");
});

await step("GET the limits", async () => {
  const limits = expect(await owner.GET("/v1/workspaces/{workspaceId}/limits", { params: { path } }), 200);
  const rows = limits.data.map(({ key, kind, used, available, unlimited }) => [key, kind, used, available, unlimited]);
  assert.deepEqual(rows, [["members", "capacity", 1, 2, false], ["words", "renewing", 1500, 3500, false]]);
  const words = limits.data[1];
  assert(words?.renewsAt && words.periodStartedAt < words.renewsAt);
});

await step("GET the history, page by page", async () => {
  const causes: string[] = [];
  const tables = new Set<string>();
  let before: number | null | undefined;
  do {
    const query = { size: 1, ...(before ? { before } : {}) };
    const page = expect(await owner.GET("/v1/workspaces/{workspaceId}/history", { params: { path, query } }), 200);
    for (const change of page.data) {
      causes.push(...change.causes);
      tables.add(change.table);
    }
    before = page.next;
  } while (before);
  // the API created the customer
  const isKnown = (cause: string) => events.includes(cause) || cause === "write";
  assert(causes.some((cause) => events.includes(cause)) && causes.every(isKnown), causes.join());
  assert.deepEqual([...tables].sort(), ["billing_contacts", "subscriptions"]);
});

/** Sends a request without types, and returns the status and the problem without its request id. */
async function refusal(token: string, method: string, route: string, body: object | undefined) {
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  const reply = await fetch(baseUrl + route, { method, headers, ...(body && { body: JSON.stringify(body) }) });
  const { requestId: _, ...rest } = JSON.parse((await reply.text()) || "{}");
  return { status: reply.status, ...rest };
}

await step("a user of another workspace gets 404 everywhere, as for a workspace that does not exist", async () => {
  const document: { paths: Record<string, Record<string, { requestBody?: object }>> } =
    await (await fetch(`${baseUrl}/openapi.json`)).json();
  const ids: Record<string, string> = { billingContactId: contact.id, sessionId: stripe.session, key: "words" };
  const fill = (route: string, workspaceId: string) =>
    route.replaceAll(/\{(\w+)\}/g, (_, parameter: string) => {
      const id = { ...ids, workspaceId }[parameter];
      return id ?? assert.fail(`add the path parameter ${parameter} to ids`);
    });
  const requests: [string, string, object | undefined][] = [];
  for (const [route, operations] of Object.entries(document.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      if (route.includes("{workspaceId}")) {
        requests.push([method.toUpperCase(), route, operation.requestBody && { name: "Mine", amount: 1 }]);
      }
    }
  }
  requests.push(["GET", "/v1/state?workspace={workspaceId}", undefined]);
  assert(requests.length >= 10, `only ${requests.length} operations are about a workspace`);
  for (const [method, route, body] of requests) {
    const refused = await refusal(tokens.other, method, fill(route, made.id), body);
    assert.deepEqual([refused.status, refused.code], [404, "not-found"], `${method} ${route}`);
    const absent = await refusal(tokens.other, method, fill(route, randomUUID()), body);
    assert.deepEqual(absent, refused, `${method} ${route}`);
  }
  for (const customer of [contact.id, stripe.customer]) {
    assert.equal((await refusal(tokens.other, "GET", `/v1/state?customer=${customer}`, undefined)).status, 404);
  }
  const query = { search: name };
  const list = expect(await clientOf(tokens.other).GET("/v1/workspaces", { params: { query } }), 200);
  assert.deepEqual([list.data, list.page.totalElements], [[], 0]);
  const all = expect(await clientOf(tokens.admin).GET("/v1/workspaces", { params: { query } }), 200);
  assert.equal(all.data[0]?.id, made.id);
});

await step("it cannot be deleted while its subscription lives", async () => {
  const refused = await owner.DELETE("/v1/workspaces/{workspaceId}", { params: { path } });
  problem(refused, "workspace-has-subscription");
  await stripe.cancel();
  const { stripeStatus, endDate, limits } = await state(false);
  assert.equal(stripeStatus, "canceled");
  assert(endDate && limits.every((limit) => limit.available === 0));
  problem(await consume("words", 1), "subscription-inactive");
});

await step("DELETE it", async () => {
  const gone = await owner.DELETE("/v1/workspaces/{workspaceId}", { params: { path } });
  assert.equal(gone.response.status, 204, JSON.stringify(gone.error));
  for (const token of [tokens.owner, tokens.admin]) {
    problem(await clientOf(token).GET("/v1/workspaces/{workspaceId}", { params: { path } }), "not-found");
    problem(await clientOf(token).DELETE("/v1/workspaces/{workspaceId}", { params: { path } }), "not-found");
  }
});
