ALTER TABLE billing.billing_contacts
    ADD COLUMN default_payment_method text,
    ADD COLUMN default_payment_method_card_brand text,
    ADD COLUMN default_payment_card_number_last_four_digits text,
    ADD CONSTRAINT billing_contacts_brand_is_of_a_card CHECK (
        default_payment_method_card_brand IS NULL OR default_payment_method = 'card');

COMMENT ON COLUMN billing.billing_contacts.default_payment_method IS 'Type of the method that invoices are charged to by default: card, sepa_debit …, as Stripe names it; invoice_settings.default_payment_method, else default_source.';
COMMENT ON COLUMN billing.billing_contacts.default_payment_method_card_brand IS 'Brand of that card: visa, mastercard, amex …; null where it is no card.';
COMMENT ON COLUMN billing.billing_contacts.default_payment_card_number_last_four_digits IS 'Last four digits of that card, account or IBAN, or of the card behind a wallet, leading zeros kept.';
