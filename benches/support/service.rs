//! The real binary as a separate process, killed when its value is dropped.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use billing_sync::config::secret::WebhookSecret;

use super::connection::get;
use super::load::Target;
use super::memory;

/// Webhook secret that signs the events.
pub(crate) const SECRET: &str = "whsec_bench";

/// Start timeout, after which the benchmark fails.
const START_LIMIT: Duration = Duration::from_secs(30);

/// `billing-sync serve`.
pub(crate) struct Service {
    child: Child,
    webhooks: SocketAddr,
}

impl Service {
    /// Starts the service with default settings and these roles (default: all), and waits until it is ready.
    pub(crate) fn start(url: &str, roles: Option<&str>) -> Self {
        let (webhooks, ops) = (free_address(), free_address());
        let mut command = Command::new(env!("CARGO_BIN_EXE_billing-sync"));
        command
            .arg("serve")
            .env_clear()
            .env("DATABASE_URL", url)
            .env("STRIPE_WEBHOOK_SECRET", SECRET)
            .env("BILLING_SYNC_LISTEN", webhooks.to_string())
            .env("BILLING_SYNC_OPS_LISTEN", ops.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(roles) = roles {
            command.args(["--roles", roles]);
        }
        let began = Instant::now();
        let child = command.spawn().unwrap();
        while !get(ops, "/readyz").is_ok_and(|status| status == 200) {
            assert!(began.elapsed() < START_LIMIT, "billing-sync is not ready");
            thread::sleep(Duration::from_micros(200));
        }
        Self { child, webhooks }
    }

    /// Target for events to this service.
    pub(crate) fn target(&self) -> Target {
        Target { address: self.webhooks, path: "/webhooks/stripe", secret: WebhookSecret::new(SECRET).unwrap() }
    }

    /// Resident memory in MB.
    pub(crate) fn memory(&self) -> f64 {
        memory::megabytes(self.child.id(), "VmRSS").unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address whose port was free a moment ago. It is below the system's ephemeral ports, because a client with such a
/// port could connect to itself before the process has bound it.
pub(crate) fn free_address() -> SocketAddr {
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(20_000..32_000)));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
