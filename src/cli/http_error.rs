//! Errors of the HTTP clients of the commands.

/// The root cause only: "connection refused" is clearer than the layers around it.
pub(super) fn root_cause(error: hyper_util::client::legacy::Error) -> anyhow::Error {
    let error = anyhow::Error::new(error);
    match error.chain().last().map(ToString::to_string) {
        Some(root) => anyhow::anyhow!(root),
        None => error,
    }
}
