//! nginx with TLS, logins and base paths, and an authority for its certificates.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::node::{PATIENCE, until};

/// As Elasticsearch says it.
pub const WORDS: &str = "unable to authenticate user [logweir] for REST request";

/// A certificate authority, made by openssl, and what it signed.
#[derive(Debug)]
pub struct Authority {
    /// Where they are: `NAME.pem` and `NAME.key`.
    pub dir: tempfile::TempDir,
}

impl Authority {
    /// Makes it, and a certificate for a `server` and one for a `client`.
    ///
    /// # Panics
    /// If openssl is not there.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it runs a program")]
    pub fn new() -> Self {
        let authority = Self { dir: tempfile::tempdir().expect("a directory") };
        let subject = ["-subj", "/CN=logweir test authority", "-out", "ca.pem", "-keyout", "ca.key"];
        authority.openssl(&[&["req", "-x509", "-days", "2"], &KEY[..], &subject].concat());
        authority.sign("server", SERVER);
        authority.sign("client", "extendedKeyUsage = clientAuth\n");
        let (certificate, key) = (authority.read("client.pem"), authority.read("client.key"));
        fs::write(authority.path("client-both.pem"), certificate + &key).expect("room");
        authority
    }

    /// Makes `NAME.pem` and `NAME.key` anew.
    ///
    /// # Panics
    /// If openssl is not there.
    pub fn sign(&self, name: &str, extensions: &str) {
        let [request, key, certificate, subject, file] =
            [".csr", ".key", ".pem", "", ".ext"].map(|end| format!("{name}{end}"));
        fs::write(self.path(&file), extensions).expect("room");
        let subject = format!("/CN={subject}");
        self.openssl(&[&["req", "-subj", &subject, "-out", &request, "-keyout", &key], &KEY[..]].concat());
        let by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", &file];
        self.openssl(&[&["x509", "-req", "-in", &request, "-out", &certificate], &by[..]].concat());
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl").args(arguments).current_dir(self.dir.path()).output();
        let output = output.expect("openssl (Debian: package openssl)");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A file of it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("openssl made it")
    }
}

/// Extensions of a server's certificate.
pub const SERVER: &str = "subjectAltName = IP:127.0.0.1, DNS:localhost\nextendedKeyUsage = serverAuth\n";
const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/// Makes nginx run as it does in production, with a master that can be told to reload.
pub const RELOADABLE: &str = "# reloadable\n";

/// nginx in front of a server; ends with this.
#[derive(Debug)]
pub struct Nginx {
    /// Who signed its certificate.
    pub authority: Authority,
    /// Its configuration and logs.
    pub dir: tempfile::TempDir,
    child: Child,
    port: u16,
}

impl Nginx {
    /// In front of the server at `upstream`. `server` are directives of the server, `location` those of what is passed on,
    /// `/` or another path.
    ///
    /// # Panics
    /// If nginx does not start.
    #[must_use]
    pub fn start(upstream: &str, server: &str, path: &str, location: &str) -> Self {
        let authority = Authority::new();
        let dir = tempfile::tempdir().expect("a directory");
        let mut last = String::new();
        // A port that was free may be taken when nginx gets there.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
            let config = configuration(&authority, upstream, port, server, path, location);
            fs::write(dir.path().join("nginx.conf"), config).expect("room");
            let mut child = nginx(&dir).spawn().expect("nginx (Debian: package nginx-light)");
            let up = until("nginx to listen or to end", PATIENCE, || {
                let ended = child.try_wait().expect("it can be asked").is_some();
                let answers = TcpStream::connect(("127.0.0.1", port)).is_ok();
                (ended || answers).then_some(!ended)
            });
            if up {
                return Self { authority, dir, child, port };
            }
            last = fs::read_to_string(dir.path().join("error.log")).unwrap_or_default();
        }
        panic!("nginx does not start: {last}");
    }

    /// With nothing but TLS.
    #[must_use]
    pub fn plain(upstream: &str) -> Self {
        Self::start(upstream, "", "/", "")
    }

    /// With a login as Elasticsearch has it.
    #[must_use]
    pub fn with_login(upstream: &str, password: &str) -> Self {
        let proxy = Self::start(upstream, "", "/", "auth_basic elasticsearch;\nauth_basic_user_file users;");
        proxy.expect_password(password);
        proxy
    }

    /// nginx looks into the file at each request.
    ///
    /// # Panics
    /// If there is no room.
    pub fn expect_password(&self, password: &str) {
        fs::write(self.dir.path().join("users"), format!("logweir:{{PLAIN}}{password}\n")).expect("room");
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Reads its configuration and certificates again, if it is [`RELOADABLE`]; connections that are idle end.
    ///
    /// # Panics
    /// If it cannot be told.
    pub fn reload(&self) {
        let status = Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// The certificate that a new connection is shown.
    ///
    /// # Panics
    /// If openssl is not there.
    #[must_use]
    pub fn shown(&self) -> Vec<u8> {
        let address = format!("127.0.0.1:{}", self.port);
        let output = Command::new("openssl").args(["s_client", "-connect", &address]).stdin(Stdio::null()).output();
        let text = String::from_utf8_lossy(&output.expect("openssl").stdout).into_owned();
        let begin = text.find("-----BEGIN CERTIFICATE").map(|at| &text[at..]).unwrap_or_default();
        begin.split("-----END").next().unwrap_or_default().as_bytes().to_vec()
    }

    /// The YAML that trusts our authority.
    #[must_use]
    pub fn trust(&self) -> String {
        format!("ca_file: '{}'", self.authority.path("ca.pem").display())
    }

    /// Requests whose log line contains `part`.
    #[must_use]
    pub fn requests(&self, part: &str) -> Vec<String> {
        let log = fs::read_to_string(self.dir.path().join("requests.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains(part)).map(ToOwned::to_owned).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Not killed: with a master process, that would leave its workers behind.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

fn nginx(dir: &tempfile::TempDir) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("nginx");
    command.env("PATH", format!("{path}:/usr/sbin")).arg("-p").arg(dir.path()).args(["-e", "error.log", "-c"]);
    command.arg(dir.path().join("nginx.conf")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn configuration(authority: &Authority, upstream: &str, port: u16, server: &str, path: &str, location: &str) -> String {
    let certificates = authority.dir.path().display();
    let master = if server == RELOADABLE { "on" } else { "off" };
    let server = server.replace("{certificates}", &certificates.to_string());
    let refusal = json!({"error": {"type": "security_exception", "reason": WORDS}, "status": 401});
    format!(
        "daemon off; master_process {master}; user root; pid nginx.pid;
events {{}}
http {{
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    client_max_body_size 0;
    log_format ours '$request_method $uri status=$status encoding=$http_content_encoding';
    access_log requests.log ours;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificates}/server.pem;
        ssl_certificate_key {certificates}/server.key;
        {server}
        error_page 401 /refused;
        location = /refused {{ internal; default_type application/json; return 401 '{refusal}'; }}
        location {path} {{ {location} proxy_pass {upstream}/; }}
    }}
}}
"
    )
}
