-- Stripe's times are whole seconds: a subscription is often created and made active within one. Which of the events of a
-- second came last is known from the events themselves (docs/architecture.md, Order), and is kept here.
ALTER TABLE billing.subscription_timeline ADD COLUMN place smallint NOT NULL DEFAULT 0;

UPDATE billing.subscription_timeline SET place = -1 WHERE source = 'read';

COMMENT ON COLUMN billing.subscription_timeline.place IS 'Within its second the row with the highest place is the last: 1 is the event that was found to be the last of several, -1 a read.';
