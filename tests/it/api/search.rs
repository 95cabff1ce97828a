//! `GET /v1/workspaces`: the two filters by legacy ids, and the search.

use serde_json::json;
use url::form_urlencoded::Serializer;
use uuid::Uuid;

use super::harness::{ADA, ApiTest, BO};
use super::list::{ids, list};

/// The number of the workspace in its id.
fn id(number: u128) -> Uuid {
    Uuid::from_u128(0xfeed_beef_0000_4000_8000_0000_0000_0000 + number)
}

fn numbered(numbers: &[u128]) -> Vec<Uuid> {
    numbers.iter().copied().map(id).collect()
}

/// Five workspaces with legacy ids. All have the team 10 and their number; the owner of each has the legacy id 20 and
/// its number, and a member has 30 and its number. The last two have the same team and the same owner.
async fn with_legacy_ids() -> ApiTest {
    let test = ApiTest::start().await;
    for (number, legacy) in [(1, 1), (2, 2), (3, 3), (4, 4), (5, 4)] {
        let id = id(number);
        test.execute(&format!(
            "INSERT INTO billing.workspaces (id, imported_from_legacy_team_id) VALUES ('{id}', 10 + {legacy});
            INSERT INTO billing.workspace_members (workspace_id, user_id, role, legacy_customer_id)
            VALUES ('{id}', '{ADA}', 'owner', 20 + {legacy}), ('{id}', '{BO}', 'member', 30 + {legacy})"
        ))
        .await;
    }
    let neither = id(6);
    test.execute(&format!(
        "INSERT INTO billing.workspaces (id) VALUES ('{neither}');
        INSERT INTO billing.workspace_members (workspace_id, user_id, role) VALUES ('{neither}', '{ADA}', 'owner')"
    ))
    .await;
    test
}

#[tokio::test]
async fn b2_imported_from_legacy_team_ids_filters() {
    let test = with_legacy_ids().await;
    let (ada, admin) = (test.user(ADA).await, test.admin().await);
    for (teams, expected) in [
        ("11", &[1][..]),
        ("14", &[4, 5]),
        ("11,13", &[1, 3]),
        ("13,11,11,99", &[1, 3]),
        ("99", &[]),
        ("1", &[]),
        ("", &[1, 2, 3, 4, 5, 6]),
    ] {
        for client in [&ada, &admin] {
            let found = list(client, &format!("importedFromLegacyTeamIds={teams}")).await;
            assert_eq!(ids(&found), numbered(expected), "{teams}");
            assert_eq!(found["page"]["totalElements"], expected.len(), "{teams}");
        }
    }
    test.finish().await;
}

#[tokio::test]
async fn b2_owner_legacy_customer_ids_filters_by_owners_only() {
    let test = with_legacy_ids().await;
    let (bo, admin) = (test.user(BO).await, test.admin().await);
    for (owners, expected) in [
        ("21", &[1][..]),
        ("24", &[4, 5]),
        ("21,23,99", &[1, 3]),
        ("99", &[]),
        // the legacy id of a member who does not own it
        ("31", &[]),
        ("31,22", &[2]),
    ] {
        for client in [&bo, &admin] {
            let found = list(client, &format!("ownerLegacyCustomerIds={owners}")).await;
            assert_eq!(ids(&found), numbered(expected), "{owners}");
            assert_eq!(found["page"]["totalElements"], expected.len(), "{owners}");
        }
    }
    test.finish().await;
}

#[tokio::test]
async fn b2_all_filters_together_must_match() {
    let test = with_legacy_ids().await;
    test.execute(&format!("UPDATE billing.workspaces SET name = 'Marketing' WHERE id IN ('{}', '{}')", id(1), id(5)))
        .await;
    let ada = test.user(ADA).await;
    for (query, expected) in [
        ("importedFromLegacyTeamIds=11,12&ownerLegacyCustomerIds=22,23", &[2][..]),
        ("importedFromLegacyTeamIds=11&ownerLegacyCustomerIds=22", &[]),
        ("importedFromLegacyTeamIds=11,14&ownerLegacyCustomerIds=21,24&search=market", &[1, 5]),
        ("importedFromLegacyTeamIds=11,14&ownerLegacyCustomerIds=24&search=market", &[5]),
        ("ownerLegacyCustomerIds=21,24&size=1&page=2&order=desc&sort=keyIndex", &[4]),
    ] {
        assert_eq!(ids(&list(&ada, query).await), numbered(expected), "{query}");
    }
    let page = json!({ "currentPage": 2, "size": 1, "totalElements": 3, "totalPages": 3 });
    assert_eq!(list(&ada, "ownerLegacyCustomerIds=21,24&size=1&page=2").await["page"], page);
    test.finish().await;
}

#[tokio::test]
async fn b2_search_finds_a_part_of_the_name_the_key_and_the_id() {
    let test = ApiTest::start().await;
    for (number, name, key) in [
        (1, "Online Marketing Team", "NF-GK352"),
        (2, "50% off_season", "NF-GK353"),
        (3, "C:\\Windows", "NF-AB001"),
        (4, "O''Hara & Sons", "NF-AB002"),
        (5, "", ""),
    ] {
        let (id, name, key) = (id(number), format!("nullif('{name}', '')"), format!("nullif('{key}', '')"));
        test.execute(&format!(
            "INSERT INTO billing.workspaces (id, name, key) VALUES ('{id}', {name}, {key});
            INSERT INTO billing.workspace_members (workspace_id, user_id, role) VALUES ('{id}', '{ADA}', 'member')"
        ))
        .await;
    }
    // of another user, and a deleted one
    test.workspace("Marketing of Bo", BO).await;
    let deleted = test.workspace("Marketing of old", ADA).await;
    test.execute(&format!("UPDATE billing.workspaces SET deleted_at = now() WHERE id = '{deleted}'")).await;
    let ada = test.user(ADA).await;
    let (whole, end) = (id(2).to_string(), "8000-000000000003");
    for (search, expected) in [
        ("Online Marketing Team", &[1][..]),
        ("marketing", &[1]),
        ("MARKETING", &[1]),
        ("ne Mark", &[1]),
        ("NF-GK352", &[1]),
        ("nf-gk35", &[1, 2]),
        ("-ab0", &[3, 4]),
        (whole.as_str(), &[2]),
        (&whole.to_uppercase(), &[2]),
        ("feedbeef", &[1, 2, 3, 4, 5]),
        (end, &[3]),
        // shorter than three characters
        ("ne", &[1]),
        ("c:", &[3]),
        // the special characters of SQL patterns and texts
        ("%", &[2]),
        ("50%", &[2]),
        ("_", &[2]),
        ("off_s", &[2]),
        ("off-s", &[]),
        ("\\", &[3]),
        ("c:\\w", &[3]),
        ("\\\\", &[]),
        ("'", &[4]),
        ("o'hara &", &[4]),
        ("o''hara", &[]),
        ("\"", &[]),
        ("%marketing%", &[]),
        ("ma.*g", &[]),
        ("nothing like it", &[]),
        ("", &[1, 2, 3, 4, 5]),
    ] {
        let query = Serializer::new(String::new()).append_pair("search", search).finish();
        let found = list(&ada, &query).await;
        assert_eq!(ids(&found), numbered(expected), "{search}");
        assert_eq!(found["page"]["totalElements"], expected.len(), "{search}");
    }
    test.finish().await;
}
