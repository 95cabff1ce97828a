//! Arguments, configuration, telemetry, dispatch.

fn main() {}
