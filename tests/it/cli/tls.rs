//! TLS to PostgreSQL: accepted certificates, with a server and certificate authorities of the test.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use billing_sync::database::Connection;
use billing_sync::embedded::Cluster;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sqlx::{AssertSqlSafe, ConnectOptions};
use tempfile::TempDir;

use super::{binary, code, words};
use crate::support::cluster;

/// A server with TLS on its own address, with a certificate for that address.
struct TlsServer {
    address: String,
    /// A second address of the server, which the certificate does not contain.
    other_address: String,
    dir: TempDir,
    _conn: Connection,
    _cluster: Cluster,
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl TlsServer {
    async fn start() -> Self {
        // as root the server runs as another user, who must enter the directory
        let dir = tempfile::Builder::new().permissions(Permissions::from_mode(0o711)).tempdir().unwrap();
        let hba = dir.path().join("hba.conf");
        std::fs::write(&hba, "local all all trust\nhostssl all all 127.0.0.0/8 trust\n").unwrap();
        // its own address, because all private clusters use the same port
        let pid = std::process::id();
        let network = format!("127.{}.{}", 1 + pid % 200, pid / 200 % 250);
        let (address, other_address) = (format!("{network}.2"), format!("{network}.3"));
        let mut options = cluster::options(dir.path());
        options.settings.push(("listen_addresses".to_owned(), format!("{address},{other_address}")));
        options.settings.push(("hba_file".to_owned(), hba.display().to_string()));
        let cluster = Cluster::start(&options).await.unwrap();
        let mut conn = Connection::from(cluster.connect_options().connect().await.unwrap());
        let issuer = authority("ours");
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![address.clone()]).unwrap().signed_by(&key, &issuer).unwrap();
        write(&mut conn, "server.key", &key.serialize_pem()).await;
        write(&mut conn, "server.crt", &certificate.pem()).await;
        std::fs::write(dir.path().join("ours.pem"), issuer.pem()).unwrap();
        std::fs::write(dir.path().join("other.pem"), authority("other").pem()).unwrap();
        for sql in ["ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"] {
            sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
        }
        for _ in 0..100 {
            let on: String = sqlx::query_scalar("SELECT current_setting('ssl')").fetch_one(&mut conn).await.unwrap();
            if on == "on" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self { address, other_address, dir, _conn: conn, _cluster: cluster }
    }

    fn file(&self, name: &str) -> String {
        PathBuf::from(self.dir.path()).join(name).display().to_string()
    }
}

/// Runs `migrate` with this host, these parameters and variables.
fn migrate(host: &str, parameters: &str, environment: &[(&str, &str)]) -> (i32, String) {
    let url = format!("postgres://postgres@{host}/billing?{parameters}");
    let mut environment = environment.to_vec();
    environment.push(("DATABASE_URL", &url));
    let output = binary(&["migrate"], &environment).output().unwrap();
    (code(&output), format!("{} {}", words(&output.stdout), words(&output.stderr)))
}

/// Writes a file into the data directory as the server's user; no other user may read it.
async fn write(conn: &mut Connection, name: &str, pem: &str) {
    let sql = format!(
        "COPY (SELECT regexp_split_to_table('{}', E'\\n')) TO PROGRAM 'umask 077; cat > {name}'",
        pem.trim().replace('\r', "")
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.unwrap();
}

#[tokio::test]
async fn the_server_certificate_needs_a_trusted_issuer_and_its_name() {
    let server = TlsServer::start().await;
    let (ours, other) = (server.file("ours.pem"), server.file("other.pem"));
    let right = format!("sslmode=verify-full&sslrootcert={ours}");
    let (address, other_address) = (server.address.as_str(), server.other_address.as_str());
    for (parameters, environment) in [
        ("sslmode=require", vec![]),
        ("sslmode=no-verify", vec![]),
        (right.as_str(), vec![]),
        ("sslmode=verify-full", vec![("SSL_CERT_FILE", ours.as_str())]),
        ("sslrootcert=system", vec![("SSL_CERT_FILE", ours.as_str())]),
        ("", vec![("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", ours.as_str())]),
    ] {
        let (exit, text) = migrate(address, parameters, &environment);
        assert_eq!(exit, 0, "{parameters} {environment:?}: {text}");
    }
    let wrong = format!("sslmode=verify-full&sslrootcert={other}");
    let required = format!("sslmode=require&sslrootcert={other}");
    let (exit, text) = migrate(other_address, &format!("sslmode=verify-ca&sslrootcert={ours}"), &[]);
    assert_eq!(exit, 0, "{text}");
    for (host, parameters, environment, expected) in [
        (address, wrong.as_str(), vec![], "set sslrootcert in the connection string"),
        // as libpq does if sslrootcert is set
        (address, &required, vec![], "set sslrootcert in the connection string"),
        (address, "sslmode=verify-full", vec![], "set sslrootcert in the connection string"),
        (address, "sslmode=verify-full", vec![("SSL_CERT_FILE", other.as_str())], "or SSL_CERT_FILE, to the authority"),
        (address, "sslmode=verify-full", vec![("SSL_CERT_FILE", "/dev/null")], "SSL_CERT_FILE wrong cannot be used"),
        (address, "sslmode=disable", vec![], "no encryption"),
        (other_address, &right, vec![], "connect by a name in the certificate"),
    ] {
        let (exit, text) = migrate(host, parameters, &environment);
        assert_ne!(exit, 0, "{host} {parameters} {environment:?}: {text}");
        assert!(text.contains(expected), "{host} {parameters} {environment:?}: {text}");
    }
}
