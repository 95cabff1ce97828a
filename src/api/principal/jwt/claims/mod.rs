//! The claims of a verified JWT: their checks, and the principal that they describe. PURE.
//!
//! The current time is an argument, so the checks are a function of their input. Called by [`super::JwtVerifier`] after
//! the signature was verified.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::error::JwtError;
use crate::api::principal::{Principal, Profile, Scope};
use crate::config::api::JwtConfig;

type Claims = Map<String, Value>;

/// Maximum length of a name or e-mail address in characters.
const MAX_TEXT: usize = 255;

/// Checks the claims at the time `now`, and returns the user that they name.
///
/// # Errors
/// The first claim that is not accepted: issuer, audience, times, user.
pub(super) fn principal(claims: &Claims, config: &JwtConfig, now: OffsetDateTime) -> Result<Principal, JwtError> {
    if claims.get("iss").and_then(Value::as_str) != Some(config.issuer.as_str()) {
        return Err(JwtError::Issuer);
    }
    if !is_for(claims.get("aud"), &config.audiences) {
        return Err(JwtError::Audience);
    }
    check_times(claims, Duration::try_from(config.leeway).unwrap_or(Duration::MAX), now)?;
    let user = find(claims, &config.user_claim).and_then(Value::as_str);
    let user = user.and_then(|user| Uuid::try_parse(user).ok()).filter(|user| !user.is_nil());
    let user = user.ok_or_else(|| JwtError::UserClaim(config.user_claim.clone()))?;
    let mut scopes = vec![Scope::WorkspacesRead, Scope::WorkspacesWrite];
    if is_admin(find(claims, &config.roles_claim), &config.admin_roles) {
        scopes.extend([Scope::WorkspacesAdmin, Scope::CheckoutLinkWrite]);
    }
    let legacy_customer = find(claims, &config.legacy_customer_claim).and_then(number);
    let text = |name: &str| find(claims, name).and_then(text);
    let profile = Profile {
        email: text(&config.email_claim).filter(|email| email.contains('@')),
        name: text(&config.name_claim),
        locale: text(&config.locale_claim),
    };
    Ok(Principal { id: format!("user:{user}"), user: Some(user), profile, legacy_customer, scopes })
}

/// A text that is not blank, and not longer than Stripe accepts.
fn text(value: &Value) -> Option<String> {
    let text = value.as_str()?.trim();
    let is_valid = !text.is_empty() && text.chars().count() <= MAX_TEXT && !text.contains('\0');
    is_valid.then(|| text.to_owned())
}

/// Whether `aud`, a text or an array, contains one of the audiences.
fn is_for(claim: Option<&Value>, audiences: &[String]) -> bool {
    let is_ours = |value: &Value| value.as_str().is_some_and(|name| audiences.iter().any(|ours| ours == name));
    match claim {
        Some(Value::Array(names)) => names.iter().any(is_ours),
        Some(name) => is_ours(name),
        None => false,
    }
}

/// `exp` is required, `nbf` is not. `iat` is not checked: RFC 7519 gives it no meaning for validity, and a token that
/// must not be used yet has `nbf`.
fn check_times(claims: &Claims, leeway: Duration, now: OffsetDateTime) -> Result<(), JwtError> {
    // RFC 7519 section 4.1.4: the current time must be before the expiry
    let is_live = |expiry: OffsetDateTime| now < expiry.saturating_add(leeway);
    if !claims.get("exp").and_then(date).is_some_and(is_live) {
        return Err(JwtError::Expired);
    }
    let has_begun = |start: OffsetDateTime| start <= now.saturating_add(leeway);
    if !claims.get("nbf").is_none_or(|start| date(start).is_some_and(has_begun)) {
        return Err(JwtError::NotYetValid);
    }
    Ok(())
}

/// A `NumericDate`: seconds since 1970, with or without a fraction.
fn date(value: &Value) -> Option<OffsetDateTime> {
    let since = Duration::saturating_seconds_f64(value.as_f64()?);
    Some(OffsetDateTime::UNIX_EPOCH.saturating_add(since))
}

/// The claim with this name. The exact name comes first, because Auth0's names are URLs. Otherwise it is a path such as
/// `realm_access.roles`, of which a part may contain dots as well.
fn find<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        let mut dots = name.match_indices('.');
        dots.find_map(|(at, _)| find(claims.get(&name[..at])?.as_object()?, &name[at + 1..]))
    })
}

/// Whether one of the roles, an array or a text separated by spaces or commas, is an admin role.
fn is_admin(claim: Option<&Value>, admin_roles: &BTreeSet<String>) -> bool {
    let is_admin_role = |role: &str| !role.is_empty() && admin_roles.contains(role);
    match claim {
        Some(Value::Array(roles)) => roles.iter().filter_map(Value::as_str).any(is_admin_role),
        Some(Value::String(roles)) => roles.split([' ', ',']).any(is_admin_role),
        _ => false,
    }
}

/// A whole number that is not negative, as a number or as a text of digits.
fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().filter(|number| *number >= 0),
        Value::String(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => digits.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
