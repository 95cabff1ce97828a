//! A workspace with a value in every field: what Stripe sends about it, and what the product stores beside that.

use billing_sync::domain::object::row_id;
use serde_json::json;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::harness::{ADA, ApiClient, BO};
use super::json_object::JsonObject;
use super::synced::Synced;
use crate::support::stripe::FakeStripe;

/// Where the customer returns from the checkout.
pub(crate) const CALLBACK: &str = "https://app.example.com/done?session_id={CHECKOUT_SESSION_ID}";
/// Where a browser loads the picture.
pub(crate) const PICTURE: &str = "https://storage.example.com/avatar?signature=1";

/// Numbers of days after the beginning; all of them are in the future.
const TRIAL_DAYS: i64 = 60;
const NEXT_PLAN_DAYS: i64 = 70;
const END_DAYS: i64 = 90;

/// The workspace of Ada, with its objects in Stripe.
pub(crate) struct Filled {
    pub(crate) synced: Synced,
    pub(crate) workspace: Uuid,
    pub(crate) stripe: Objects,
}

/// Ids in Stripe.
pub(crate) struct Objects {
    pub(crate) customer: String,
    pub(crate) subscription: String,
    pub(crate) price: String,
    /// The price after the planned change.
    pub(crate) next_price: String,
    pub(crate) session: String,
    /// When the first invoice was paid.
    pub(crate) paid_at: OffsetDateTime,
}

impl Filled {
    pub(crate) async fn start() -> Self {
        let synced = Synced::start().await;
        let workspace = Uuid::from_u128(0x113c_0b32_ed6c_4421_b7da_d1fa_f238_eb56);
        let stripe = happen(&synced.stripe, workspace);
        synced.sync().await;
        let filled = Self { synced, workspace, stripe };
        filled.store().await;
        filled
    }

    /// What the product stores.
    async fn store(&self) {
        let Objects { price, next_price, .. } = &self.stripe;
        let (workspace, contact, subscription) = (self.workspace, self.contact_id(), self.subscription_id());
        let sql = format!(
            "INSERT INTO billing.workspaces (id, name, key, key_index, member_count, created_by_user_id,
                first_member_invited_at, imported_from_legacy_customer_id, imported_from_legacy_team_id, created_at,
                updated_at)
            VALUES ('{workspace}', 'Online Marketing Team', 'NF-GK352', 57, 3, '{ADA}', '2025-01-15 09:00:00.5+01', 71,
                72, '2025-01-14 16:20:59.75+00', '2025-02-01 00:00:00+00');
            INSERT INTO billing.workspace_members (workspace_id, user_id, role)
            VALUES ('{workspace}', '{ADA}', 'owner');
            INSERT INTO billing.workspace_avatars (id, workspace_id, signed_url, file_name, storage_key,
                created_by_user_id, created_at, updated_at)
            VALUES ('00000000-0000-4000-8000-0000000000aa', '{workspace}', '{PICTURE}', 'a2G8Sa7Mn47Je0Lm.png',
                'workspaces/1/avatar', '{BO}', '2025-01-16 10:00:00+00', '2025-01-17 10:00:00+00');
            INSERT INTO billing.row_origins VALUES ('{contact}', '{ADA}', 73), ('{subscription}', '{BO}', 74);
            INSERT INTO billing.pricing_plan_categories VALUES ('pro', 'Professional', 'categories.pro');
            UPDATE billing.pricing_plans SET display_name = 'Gold', tier = 3, is_default = true, category_id = 'pro',
                trial_days = 7, stripe_billing_portal_enabled = true, imported_from_legacy_id = 150
            WHERE stripe_price_id = '{price}';
            -- a category without a row
            UPDATE billing.pricing_plans SET category_id = 'basic', imported_from_legacy_id = 151
            WHERE stripe_price_id = '{next_price}';
            UPDATE billing.coupons SET translation_key = 'coupons.save', pricing_plan_id = (
                SELECT id FROM billing.pricing_plans WHERE stripe_price_id = '{next_price}')
            WHERE stripe_coupon_id = 'SAVE';
            SELECT billing.grant_bonus('{workspace}', 'words', 50, 'for the wait');
            SELECT billing.consume('{workspace}', 'words', 300)"
        );
        self.synced.api.execute(&sql).await;
    }

    pub(crate) fn contact_id(&self) -> Uuid {
        row_id("", &self.stripe.customer)
    }

    pub(crate) fn subscription_id(&self) -> Uuid {
        row_id("", &self.stripe.subscription)
    }

    /// The path of the checkout session.
    pub(crate) fn session_path(&self) -> String {
        let (workspace, contact, session) = (self.workspace, self.contact_id(), &self.stripe.session);
        format!("/v1/workspaces/{workspace}/billing-contacts/{contact}/stripe-checkout-sessions/{session}")
    }

    /// This number of days after the beginning.
    fn after(&self, days: i64) -> OffsetDateTime {
        self.synced.began + Duration::days(days)
    }

    pub(crate) fn trial_ends_at(&self) -> OffsetDateTime {
        self.after(TRIAL_DAYS)
    }

    pub(crate) fn ends_at(&self) -> OffsetDateTime {
        self.after(END_DAYS)
    }

    /// A client of Ada, who owns the workspace.
    pub(crate) async fn ada(&self) -> ApiClient {
        self.synced.api.user(ADA).await
    }

    /// The workspace as Ada reads it.
    pub(crate) async fn read(&self) -> JsonObject {
        self.read_at(&format!("/v1/workspaces/{}", self.workspace)).await
    }

    /// The object that Ada reads at this path.
    pub(crate) async fn read_at(&self, path: &str) -> JsonObject {
        let reply = self.ada().await.get(path).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        JsonObject::read(&reply.text)
    }

    pub(crate) async fn finish(self) {
        self.synced.finish().await;
    }
}

/// What happens at Stripe: a trial with a paid invoice, a failed debit, two discounts, a planned change of the plan and
/// a planned end, and the checkout that led to it.
fn happen(stripe: &FakeStripe, workspace: Uuid) -> Objects {
    const DAY: i64 = 86_400;
    let start = stripe.now();
    let product = stripe.product(json!({ "name": "Writing" }));
    let yen = json!({ "unit_amount": 3000, "unit_amount_decimal": "3000" });
    let price = json!({ "metadata": { "limit_words": "1000", "limit_members": "3" },
        "recurring": { "interval": "year" }, "currency_options": { "jpy": yen } });
    let price = stripe.price(&product, 1990, price);
    let next_price = stripe.price(&product, 2900, json!({}));
    let address = json!({ "line1": "Hauptstr. 1", "line2": "Hof", "city": "Hamburg", "postal_code": "20095",
        "state": "HH", "country": "DE" });
    let customer = stripe.customer(json!({ "name": "Ada Lovelace", "email": "ada@example.com", "address": address,
        "metadata": { "workspace_id": workspace } }));
    let subscription = stripe.trial(&customer, &price, TRIAL_DAYS);

    stripe.tick(60);
    let (default, own, bank) =
        (stripe.card("visa", "4242"), stripe.card("mastercard", "4444"), stripe.sepa_debit("3000"));
    for method in [&default, &own, &bank] {
        stripe.attach(method, &customer);
    }
    stripe.set_default_payment_method(&customer, &default);
    stripe.update(&subscription, json!({ "default_payment_method": own }));
    stripe.tick(60);
    let paid_at = OffsetDateTime::from_unix_timestamp(stripe.now()).unwrap();
    stripe.charge_succeeded(&stripe.bill(&subscription, 1990), &own);
    stripe.tick(60);
    stripe.charge_failed(&stripe.bill(&subscription, 1990), &bank, "insufficient_funds");

    stripe.tick(60);
    let (ten, save) = (stripe.coupon("TEN", 10.0), stripe.coupon("SAVE", 12.5));
    stripe.discount(&customer, &ten);
    stripe.discount(&subscription, &save);
    let (change, later) = (start + NEXT_PLAN_DAYS * DAY, start + 2 * NEXT_PLAN_DAYS * DAY);
    stripe.tick(60);
    stripe.schedule(&subscription, &[(&price, start, change), (&next_price, change, later)], "release");
    stripe.tick(60);
    stripe.cancel_at(&subscription, start + END_DAYS * DAY);

    let session = stripe.checkout(
        &price,
        json!({ "customer": customer, "locale": "de", "return_url": CALLBACK, "success_url": null,
            "ui_mode": "embedded_page", "metadata": { "workspace_id": workspace },
            "discounts": [{ "coupon": save, "promotion_code": null }] }),
    );
    stripe.complete_checkout(&session, &subscription, "paid");
    Objects { customer, subscription, price, next_price, session, paid_at }
}
