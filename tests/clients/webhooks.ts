// Stripe, as far as the walk needs it: the objects of one paying customer, and their signed webhooks.

import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";

type StripeObject = { id: string; [field: string]: unknown };

const DAY = 86_400;

export class Stripe {
  readonly now = Math.floor(Date.now() / 1000);
  readonly suffix = randomUUID().replaceAll("-", "");
  readonly customer = `cus_${this.suffix}`;
  readonly subscription = `sub_${this.suffix}`;
  readonly session = `cs_test_${this.suffix}`;

  constructor(private readonly url: string, private readonly secret: string, private readonly workspace: string) {}

  /** The customer pays for a plan with words and members through a checkout session. Returns the ids of the events. */
  async subscribe(): Promise<string[]> {
    const metadata = { workspace_id: this.workspace };
    const product = `prod_${this.suffix}`;
    const begin = this.now - DAY;
    const events: [string, StripeObject][] = [
      [
        "product.created",
        { id: product, object: "product", active: true, created: begin, metadata: {}, name: "Writing" },
      ],
      ["price.created", this.price(product)],
      [
        "customer.created",
        {
          id: this.customer, object: "customer", created: begin, email: "walk@example.com", metadata, name: "Walk",
          address: { city: "Berlin", country: "DE", line1: "Hauptstr. 1", line2: null, postal_code: "10115" },
        },
      ],
      ["customer.subscription.created", this.subscribed(metadata, product, "active", null)],
      [
        "checkout.session.completed",
        {
          id: this.session, object: "checkout.session", created: begin, customer: this.customer, discounts: [],
          locale: "de", metadata, mode: "subscription", payment_status: "paid", status: "complete",
          return_url: "https://app.example.com/paid", subscription: this.subscription,
        },
      ],
    ];
    return this.send(events, begin);
  }

  /** The subscription is canceled at once. */
  async cancel(): Promise<void> {
    const canceled = this.subscribed({ workspace_id: this.workspace }, `prod_${this.suffix}`, "canceled", this.now);
    await this.send([["customer.subscription.deleted", canceled]], this.now);
  }

  private price(product: string): StripeObject {
    return {
      id: `price_${this.suffix}`, object: "price", active: true, billing_scheme: "per_unit", currency: "eur",
      metadata: { limit_members: "3", limit_words: "5000" }, product, type: "recurring", unit_amount: 1990,
      unit_amount_decimal: "1990",
      recurring: { interval: "month", interval_count: 1, usage_type: "licensed" },
    };
  }

  private subscribed(metadata: object, product: string, status: string, ended_at: number | null): StripeObject {
    const begin = this.now - DAY;
    const item = {
      id: `si_${this.suffix}`, object: "subscription_item", created: begin, current_period_start: begin,
      current_period_end: begin + 30 * DAY, price: this.price(product), quantity: 1,
    };
    return {
      id: this.subscription, object: "subscription", billing_cycle_anchor: begin, cancel_at: null,
      cancel_at_period_end: false, canceled_at: ended_at, created: begin, currency: "eur", customer: this.customer,
      discounts: [], ended_at, items: { object: "list", data: [item], has_more: false }, metadata,
      pause_collection: null, start_date: begin, status, trial_end: null, trial_start: null,
    };
  }

  private async send(events: [string, StripeObject][], created: number): Promise<string[]> {
    const ids: string[] = [];
    for (const [type, object] of events) {
      const id = `evt_${randomUUID().replaceAll("-", "")}`;
      const body = JSON.stringify({
        id, object: "event", api_version: "2026-10-28.endive", created, livemode: false, pending_webhooks: 1,
        request: { id: null, idempotency_key: null }, type, data: { object: { livemode: false, ...object } },
      });
      const time = Math.floor(Date.now() / 1000);
      const signature = createHmac("sha256", this.secret).update(`${time}.${body}`).digest("hex");
      const headers = { "Content-Type": "application/json", "Stripe-Signature": `t=${time},v1=${signature}` };
      const reply = await fetch(this.url, { method: "POST", headers, body });
      assert.equal(reply.status, 200, `${type}: ${await reply.text()}`);
      ids.push(id);
    }
    return ids;
  }
}
