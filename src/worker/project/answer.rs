//! Projects objects until no question is left: loads what their projections asked for, each kind in one statement.

use std::collections::{BTreeMap, BTreeSet};

use crate::database::Connection;
use crate::domain::object::ObjectKey;
use crate::mirror;
use crate::mirror::facts::known;
use crate::mirror::related;
use crate::mirror::store::MirrorRow;
use crate::projection::graph::{Graph, Node, Question};
use crate::stripe::json::Document;

/// Projects each of `open` repeatedly: loads what all of them asked for, and projects again until no question is left.
pub(super) async fn project_all<'a, T>(
    conn: &mut Connection,
    graph: &mut Graph,
    mut open: Vec<&'a ObjectKey>,
    project: impl Fn(&ObjectKey, &Graph) -> T,
) -> Result<Vec<(&'a ObjectKey, T)>, sqlx::Error> {
    let mut done = Vec::new();
    while !open.is_empty() {
        let mut unanswered = BTreeSet::new();
        let mut still_open = Vec::new();
        for key in open {
            let rows = project(key, graph);
            let questions = graph.take_questions();
            if questions.is_empty() {
                done.push((key, rows));
            } else {
                unanswered.extend(questions);
                still_open.push(key);
            }
        }
        answer(conn, graph, &unanswered).await?;
        open = still_open;
    }
    Ok(done)
}

/// Answers all questions, each kind in one statement.
async fn answer(conn: &mut Connection, graph: &mut Graph, questions: &BTreeSet<Question>) -> Result<(), sqlx::Error> {
    let mut wanted: BTreeSet<ObjectKey> = BTreeSet::new();
    let (mut of, mut referencing, mut paid) = (Vec::new(), Vec::new(), Vec::new());
    for question in questions {
        match question {
            Question::Object(key) => _ = wanted.insert(key.clone()),
            Question::Of(key, object_type) => of.push((question, (key, *object_type))),
            Question::Referencing(key, object_type) => referencing.push((question, (key, *object_type))),
            Question::Payments(key) => paid.push(key),
        }
    }
    let found = related::of_customers(conn, &arguments(&of)).await?;
    wanted.extend(put_lists(graph, &of, found));
    let found = related::referencing(conn, &arguments(&referencing)).await?;
    wanted.extend(put_lists(graph, &referencing, found));
    let mut payments: Vec<Vec<_>> = paid.iter().map(|_| Vec::new()).collect();
    for (index, payment) in known::payments(conn, &paid).await? {
        payments[index].push(payment);
    }
    for (key, payments) in paid.into_iter().zip(payments) {
        graph.put_payments(key.clone(), payments);
    }
    put_objects(conn, graph, wanted).await
}

type ListQuestions<'a> = Vec<(&'a Question, (&'a ObjectKey, &'static str))>;

fn arguments<'a>(questions: &ListQuestions<'a>) -> Vec<(&'a ObjectKey, &'static str)> {
    questions.iter().map(|(_, argument)| *argument).collect()
}

/// Puts the lists that were found into the graph; returns the objects in them, which are to be loaded.
fn put_lists(graph: &mut Graph, questions: &ListQuestions<'_>, found: Vec<(usize, ObjectKey)>) -> BTreeSet<ObjectKey> {
    let mut lists: Vec<Vec<ObjectKey>> = questions.iter().map(|_| Vec::new()).collect();
    for (index, key) in &found {
        lists[*index].push(key.clone());
    }
    for ((question, _), list) in questions.iter().zip(lists) {
        graph.put_list((*question).clone(), list);
    }
    found.into_iter().map(|(_, key)| key).collect()
}

async fn put_objects(conn: &mut Connection, graph: &mut Graph, wanted: BTreeSet<ObjectKey>) -> Result<(), sqlx::Error> {
    let mut found: BTreeMap<ObjectKey, Node> =
        mirror::store::load(conn, wanted.iter()).await?.into_iter().map(|row| (row.key.clone(), node(row))).collect();
    for key in wanted {
        let node = found.remove(&key);
        graph.put(key, node);
    }
    Ok(())
}

/// The row of an object as the projection reads it.
pub(super) fn node(row: MirrorRow) -> Node {
    let (deleted_at, not_found_at) = (row.gone_at(), row.not_found_at());
    Node {
        is_copy: row.content.is_some() && row.seen().is_none(),
        version: row.content.as_ref().map(|content| content.version),
        content: row.content.map(|content| Document::parse_or_null(content.json)),
        deleted_at,
        not_found_at,
        expansion_version: row.expansion.as_ref().map(|expansion| expansion.version),
        expansion_stale_after: row.expansion_stale_after,
        expansion: row.expansion.map(|expansion| Document::parse_or_null(expansion.json)),
    }
}
