//! The services of `compose/` without an engine: what Compose makes of a file is read, the Dockerfile is followed step by
//! step into directories, and a service runs in its directory as it would in its container: root file system, user,
//! capabilities, mounts, temporary file systems, environment, command, and a network of its own.
//!
//! What is not here: limits of memory and processes, other base images than Debian, and the build itself, for which the
//! binaries beside the tests stand in. It takes root.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use regex::Regex;
use serde_json::Value;
use tempfile::TempDir;

use crate::daemon;
use crate::node::{PATIENCE, repository, until};

/// Runs `integration-tests/compose/tools`.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn tools(arguments: &[&str]) -> Output {
    let script = repository().join("integration-tests/compose/tools");
    Command::new(script).args(arguments).stdin(Stdio::null()).output().expect("bash")
}

/// What Compose makes of a file in `compose/`: variables filled in, anchors and short forms written out.
///
/// # Panics
/// If Compose refuses the file.
#[must_use]
pub fn resolved(file: &str) -> Value {
    let path = repository().join("compose").join(file);
    let output = tools(&["compose", "--file", text(&path), "config", "--format", "json"]);
    assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A list of texts; none where there is something else.
#[must_use]
pub fn words(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

/// One instruction of a Dockerfile.
#[derive(Clone, Debug)]
pub struct Step {
    /// In upper case.
    pub word: String,
    /// `--name=value` before the arguments.
    pub flags: BTreeMap<String, String>,
    /// The arguments, continued lines joined.
    pub rest: String,
}

/// A part of a Dockerfile that begins with `FROM`.
#[derive(Clone, Debug)]
pub struct Stage {
    /// What it begins with: an image, or a stage before.
    pub from: String,
    /// After `AS`.
    pub name: String,
    /// All that follows.
    pub steps: Vec<Step>,
}

/// Reads a Dockerfile without heredocs.
///
/// # Panics
/// If it does not begin with `FROM … AS …`.
#[must_use]
pub fn stages(dockerfile: &str) -> Vec<Stage> {
    let lines: String =
        dockerfile.lines().filter(|line| !line.trim_start().starts_with('#')).fold(String::new(), |mut all, line| {
            match line.strip_suffix('\\') {
                Some(begun) => all.push_str(begun),
                None => all.extend([line, "\n"]),
            }
            all
        });
    let mut stages: Vec<Stage> = Vec::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (word, mut rest) = line.split_once(' ').expect("an instruction with arguments");
        let mut flags = BTreeMap::new();
        while let Some(flag) = rest.trim_start().strip_prefix("--") {
            let (flag, after) = flag.split_once(' ').expect("arguments after flags");
            let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
            flags.insert(name.to_owned(), value.to_owned());
            rest = after;
        }
        let step = Step { word: word.to_uppercase(), flags, rest: rest.trim().to_owned() };
        if step.word == "FROM" {
            let (from, name) = step.rest.split_once(" AS ").expect("every stage has a name");
            stages.push(Stage { from: from.to_owned(), name: name.to_owned(), steps: Vec::new() });
        } else {
            stages.last_mut().expect("FROM comes first").steps.push(step);
        }
    }
    stages
}

/// The Dockerfile of `compose/`.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn dockerfile() -> Vec<Stage> {
    stages(&fs::read_to_string(repository().join("compose/Dockerfile")).expect("the Dockerfile"))
}

/// Whether the build's context has this path of the repository, by `.dockerignore`: the last rule that fits decides.
///
/// # Panics
/// If there is no such file, or it has patterns that are not known here.
#[must_use]
pub fn in_context(path: &Path) -> bool {
    let rules = fs::read_to_string(repository().join(".dockerignore")).expect(".dockerignore");
    let mut is_in = true;
    for rule in rules.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (takes, pattern) = rule.strip_prefix('!').map_or((false, rule), |pattern| (true, pattern));
        assert!(pattern == "*" || !pattern.contains('*'), ".dockerignore: {rule}: only `*` alone is understood here");
        if pattern == "*" || path.starts_with(pattern) {
            is_in = takes;
        }
    }
    is_in
}

/// What a stage of the Dockerfile becomes.
#[derive(Debug, Default)]
struct Image {
    /// Its root file system; removed in the end where it is this process' own.
    root: PathBuf,
    own: Option<TempDir>,
    /// Says which steps made it, as long as only `RUN` did.
    layer: u64,
    user: Option<String>,
    entrypoint: Vec<String>,
    command: Vec<String>,
}

fn exec_form(step: &Step) -> Vec<String> {
    serde_json::from_str(&step.rest).unwrap_or_else(|_| panic!("{} {}: not a JSON list", step.word, step.rest))
}

impl Image {
    /// Follows the stage of this name.
    fn build(name: &str) -> Self {
        let stages = dockerfile();
        let stage = stages.iter().find(|stage| stage.name == name).unwrap_or_else(|| panic!("no stage {name}"));
        let mut image = if stages.iter().any(|other| other.name == stage.from) {
            Self::build(&stage.from)
        } else {
            assert!(stage.from.starts_with("debian:12"), "{}: only Debian 12 can be had here", stage.from);
            let output = tools(&["debian"]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Self { root: String::from_utf8_lossy(&output.stdout).trim().into(), ..Self::default() }
        };
        for step in &stage.steps {
            match step.word.as_str() {
                "RUN" => image.run(step),
                "COPY" => image.copy(step, &stages),
                "USER" => image.user = Some(step.rest.clone()),
                "ENTRYPOINT" => (image.entrypoint, image.command) = (exec_form(step), Vec::new()),
                "CMD" => image.command = exec_form(step),
                "EXPOSE" => {}
                other => panic!("{other}: not known here"),
            }
        }
        image
    }

    /// Runs a command in a copy, which is kept for the next time.
    fn run(&mut self, step: &Step) {
        assert!(self.own.is_none(), "RUN {}: before every COPY, so that its layer is kept", step.rest);
        let mut hasher = DefaultHasher::new();
        (self.layer, &step.rest).hash(&mut hasher);
        self.layer = hasher.finish();
        let cache = self.root.parent().expect("it is in the cache");
        let layer = cache.join(format!("layer-{:016x}", self.layer));
        if !layer.is_dir() {
            let made = tempfile::Builder::new().prefix(".made.").tempdir_in(cache).expect("room");
            let root = made.path().join("root");
            output(Command::new("cp").arg("-a").arg(&self.root).arg(&root));
            let script = "mount --rbind /dev \"$0/dev\"; mount -t proc proc \"$0/proc\"; touch \"$0/etc/resolv.conf\"
                mount --bind /etc/resolv.conf \"$0/etc/resolv.conf\"; exec chroot \"$0\" /bin/sh -c \"$1\"";
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-euc", script]).arg(&root).arg(&step.rest);
            output(command.env("DEBIAN_FRONTEND", "noninteractive"));
            fs::rename(root, &layer).expect("the same file system");
        }
        self.root = layer;
    }

    /// Copies from the context, or a binary from the stage that builds them.
    fn copy(&mut self, step: &Step, stages: &[Stage]) {
        if self.own.is_none() {
            let cache = self.root.parent().expect("it is in the cache");
            let own = tempfile::Builder::new().prefix("image-").tempdir_in(cache).expect("room");
            let root = own.path().join("root");
            output(Command::new("cp").arg("-al").arg(&self.root).arg(&root));
            (self.root, self.own) = (root, Some(own));
        }
        let mut paths: Vec<&str> = step.rest.split_whitespace().collect();
        let to = paths.pop().expect("a destination");
        for from in paths {
            let source = match step.flags.get("from") {
                Some(stage) => built(stages.iter().find(|other| other.name == *stage).expect("a stage"), from),
                None => {
                    assert!(in_context(Path::new(from)), "COPY {from}: .dockerignore leaves it out");
                    repository().join(from)
                }
            };
            let mut place = self.root.join(to.trim_start_matches('/'));
            if to.ends_with('/') {
                place.push(source.file_name().expect("a file"));
            }
            // The layer below has other names for the same files.
            let _ = fs::remove_file(&place);
            fs::copy(&source, &place).unwrap_or_else(|error| panic!("COPY {}: {error}", source.display()));
            if let Some(mode) = step.flags.get("chmod") {
                let mode = u32::from_str_radix(mode, 8).expect("an octal mode");
                fs::set_permissions(&place, fs::Permissions::from_mode(mode)).expect("it is ours");
            }
        }
    }
}

/// The binary beside the tests that stands for a file which a stage installs from cargo's target directory.
fn built(stage: &Stage, path: &str) -> PathBuf {
    let installs = Regex::new(r"\binstall -D -t (\S+)((?: target/release/\S+)+)").expect("a pattern");
    for step in stage.steps.iter().filter(|step| step.word == "RUN") {
        for found in installs.captures_iter(&step.rest) {
            for file in found[2].split_whitespace().map(Path::new) {
                let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
                assert!(step.rest.contains(&format!("-p {name}")), "{name} is installed and not built");
                if Path::new(path) == Path::new(&found[1]).join(name) {
                    return daemon::binary().with_file_name(name);
                }
            }
        }
    }
    panic!("{path}: stage {} does not install it", stage.name);
}

/// The services of a compose file, their volumes, and their network.
#[derive(Debug)]
pub struct Stack {
    model: Value,
    images: RefCell<BTreeMap<String, Image>>,
    dir: TempDir,
    /// Holds the network.
    network: Child,
}

impl Stack {
    /// Of a file in `compose/`; nothing is started but an empty network.
    ///
    /// # Panics
    /// If it takes what this machine has not.
    #[must_use]
    pub fn new(file: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("logweir-stack-").tempdir().expect("a directory");
        let script = "ip link set lo up && touch \"$0/up\" && exec sleep infinity";
        let mut command = super_command("unshare");
        command.args(["--net", "sh", "-c", script]).arg(dir.path()).stdin(Stdio::null());
        let stack = Self {
            model: resolved(file),
            images: RefCell::default(),
            network: command.spawn().expect("unshare (Debian: package util-linux)"),
            dir,
        };
        let up = stack.dir.path().join("up");
        until("a network (takes root, and ip of Debian's iproute2)", PATIENCE, || up.is_file().then_some(()));
        let names: Vec<String> = stack.model["services"].as_object().expect("services").keys().cloned().collect();
        fs::write(stack.dir.path().join("hosts"), format!("127.0.0.1 localhost {}\n", names.join(" "))).expect("room");
        stack
    }

    /// A service as Compose sees it.
    #[must_use]
    pub fn service(&self, name: &str) -> &Value {
        let service = &self.model["services"][name];
        assert!(service.is_object(), "no service {name}");
        service
    }

    /// Its services by name.
    #[must_use]
    pub fn model(&self) -> &Value {
        &self.model
    }

    /// Where a volume's files are, once a service that mounts it was started.
    #[must_use]
    pub fn volume(&self, name: &str) -> PathBuf {
        self.dir.path().join("volumes").join(name)
    }

    /// A command in the stack's network and this machine's files.
    #[must_use]
    pub fn in_network(&self, program: &str) -> Command {
        let mut command = super_command("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.network.id())).arg(program);
        command
    }

    /// The stage that a service's image is built from; services name an image that another one builds.
    fn target(&self, service: &str) -> Option<String> {
        let image = &self.service(service)["image"];
        let services = self.model["services"].as_object().expect("services");
        let built = services
            .values()
            .filter(|other| other["image"] == *image)
            .find_map(|other| other["build"]["target"].as_str());
        built.map(ToOwned::to_owned)
    }

    /// Starts a service as its file says, and does not wait.
    #[must_use]
    pub fn start(&self, service: &str) -> Container {
        self.start_as(service, None)
    }

    /// Runs a service to its end; what it said.
    ///
    /// # Panics
    /// If it fails, or does not end within a minute.
    pub fn finish(&self, service: &str) -> String {
        let mut container = self.start(service);
        let status = until(&format!("the end of {service}"), PATIENCE, || container.ended());
        let log = container.log();
        assert!(status.success(), "{service}: {status}\n{log}");
        log
    }

    /// A container with the mounts of a service whose image cannot be had here, in the image of another one; it does
    /// nothing.
    #[must_use]
    pub fn stand_in(&self, service: &str, target: &str, user: &str) -> Container {
        self.start_as(service, Some((target, user)))
    }

    fn start_as(&self, service: &str, stand_in: Option<(&str, &str)>) -> Container {
        let model = self.service(service);
        let target = match stand_in {
            Some((target, _)) => target.to_owned(),
            None => self.target(service).unwrap_or_else(|| panic!("{service}: its image is not built here")),
        };
        // Two tests must not make the same layer.
        static BUILDS: Mutex<()> = Mutex::new(());
        let mut images = self.images.borrow_mut();
        let image = images.entry(target.clone()).or_insert_with(|| {
            let _one_at_a_time = BUILDS.lock().unwrap_or_else(PoisonError::into_inner);
            Image::build(&target)
        });

        let script = self.mounts(service, image);
        let given = |key: &str| model[key].as_array().map(|_| words(&model[key]));
        let (user, argv) = match stand_in {
            Some((_, user)) => (user.to_owned(), vec!["sleep".to_owned(), "infinity".to_owned()]),
            None => {
                // An entrypoint of the service's own forgets the image's command.
                let command = given("command").unwrap_or_else(|| match given("entrypoint") {
                    Some(_) => Vec::new(),
                    None => image.command.clone(),
                });
                let entrypoint = given("entrypoint").unwrap_or_else(|| image.entrypoint.clone());
                let user = model["user"].as_str().map(ToOwned::to_owned).or_else(|| image.user.clone());
                (user.unwrap_or_else(|| "0:0".to_owned()), [entrypoint, command].concat())
            }
        };
        let enter = privileges(model, &user);
        let environment: Vec<String> = match &model["environment"] {
            Value::Object(all) => {
                all.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect()
            }
            _ => Vec::new(),
        };
        let log = self.dir.path().join(format!("{service}.log"));
        let file = fs::OpenOptions::new().create(true).append(true).open(&log).expect("room");
        let mut command = self.in_network("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-euc", &script]).arg(&image.root).args(&enter);
        command.args(["env", "-i", PATH]).args(&environment).args(&argv);
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a file")).stderr(file);
        let mut child = command.spawn().expect("nsenter (Debian: package util-linux)");
        // Until it is itself, and none of those that lead to it.
        const WAY: [&str; 7] = ["nsenter", "unshare", "sh", "mount", "chroot", "setpriv", "env"];
        let name = format!("/proc/{}/comm", child.id());
        until(&format!("the start of {service}"), PATIENCE, || {
            let name = fs::read_to_string(&name).unwrap_or_default();
            (!WAY.contains(&name.trim()) || child.try_wait().expect("a child").is_some()).then_some(())
        });
        Container { child, log, enter, environment }
    }

    /// What is mounted in `$0`, as a shell script that ends by executing its arguments there.
    fn mounts(&self, service: &str, image: &Image) -> String {
        let model = self.service(service);
        let root = &image.root;
        let mut script = String::from(
            "mount --bind \"$0\" \"$0\"; mount -t proc proc \"$0/proc\"; mount -t tmpfs -o mode=755 tmpfs \"$0/dev\"
            for device in null zero full random urandom; do
                touch \"$0/dev/$device\"; mount --bind \"/dev/$device\" \"$0/dev/$device\"
            done
            ln -s /proc/self/fd \"$0/dev/fd\"\n",
        );
        for tmpfs in words(&model["tmpfs"]) {
            let (path, options) = tmpfs.split_once(':').unwrap_or((&tmpfs, "mode=1777"));
            fs::create_dir_all(root.join(path.trim_start_matches('/'))).expect("room");
            let _ = writeln!(script, "mount -t tmpfs -o '{options}' tmpfs \"$0{path}\"");
        }
        let hosts =
            serde_json::json!({"type": "bind", "source": self.dir.path().join("hosts"), "target": "/etc/hosts"});
        for mount in model["volumes"].as_array().into_iter().flatten().chain([&hosts]) {
            let [source, target] = ["source", "target"].map(|key| mount[key].as_str().expect("a path"));
            let place = root.join(target.trim_start_matches('/'));
            let source = if mount["type"] == "volume" {
                fs::create_dir_all(&place).expect("room");
                self.volume_for(source, &place)
            } else {
                assert!(Path::new(source).is_file(), "{service}: {source} is no file");
                fs::create_dir_all(place.parent().expect("below /")).expect("room");
                fs::OpenOptions::new().create(true).append(true).open(&place).expect("a place to mount on");
                PathBuf::from(source)
            };
            let _ = writeln!(script, "mount --bind '{}' \"$0{target}\"", source.display());
            if mount["read_only"] == true {
                let _ = writeln!(script, "mount -o remount,ro,bind \"$0{target}\"");
            }
        }
        if model["read_only"] == true {
            script.push_str("mount -o remount,ro,bind \"$0\"\n");
        }
        script.push_str("cd \"$0\"; exec chroot \"$0\" \"$@\"\n");
        script
    }

    /// An empty volume takes owner and mode of the directory that it is mounted on.
    fn volume_for(&self, name: &str, place: &Path) -> PathBuf {
        let volume = self.volume(name);
        fs::create_dir_all(&volume).expect("room");
        if fs::read_dir(&volume).expect("a directory").next().is_none() {
            let below = fs::metadata(place).expect("a directory");
            std::os::unix::fs::chown(&volume, Some(below.uid()), Some(below.gid())).expect("root");
            fs::set_permissions(&volume, below.permissions()).expect("root");
        }
        volume
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.network.kill();
        let _ = self.network.wait();
    }
}

/// How what runs in a container gives up what its service has not.
fn privileges(model: &Value, user: &str) -> Vec<String> {
    let (user, group) = user.split_once(':').expect("USER names a group too");
    let mut all =
        vec!["setpriv".to_owned(), format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".to_owned()];
    if words(&model["cap_drop"]) == ["ALL"] {
        all.extend(["--inh-caps=-all".to_owned(), "--bounding-set=-all".to_owned()]);
    }
    if words(&model["security_opt"]).contains(&"no-new-privileges:true".to_owned()) {
        all.push("--no-new-privs".to_owned());
    }
    all
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What runs as in a container; killed in the end.
#[derive(Debug)]
pub struct Container {
    child: Child,
    log: PathBuf,
    enter: Vec<String>,
    environment: Vec<String>,
}

impl Container {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, once it has ended.
    ///
    /// # Panics
    /// If it cannot be asked.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// What it said so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Runs a command in it, as its user, to the end.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn exec(&self, argv: &[String]) -> Output {
        let mut command = self.enter_namespaces();
        command.args(&self.enter).args(["env", "-i", PATH]).args(&self.environment).args(argv);
        command.stdin(Stdio::null()).output().expect("nsenter")
    }

    /// The same by a shell; whether it succeeded.
    #[must_use]
    pub fn shell(&self, script: &str) -> bool {
        self.exec(&["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()]).status.success()
    }

    /// The same as root with all that root may, whom only the mounts stop.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn shell_as_root(&self, script: &str) -> bool {
        let mut command = self.enter_namespaces();
        command.args(["/bin/sh", "-c", script]).stdin(Stdio::null()).stderr(Stdio::null());
        command.status().expect("nsenter").success()
    }

    fn enter_namespaces(&self) -> Command {
        let mut command = super_command("nsenter");
        command.args(["--target", &self.child.id().to_string(), "--mount", "--net", "--root", "--wd"]);
        command
    }

    /// Runs a service's health check, as its file has it.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn is_healthy(&self, service: &Value) -> bool {
        let test = words(&service["healthcheck"]["test"]);
        match test.first().map(String::as_str) {
            Some("CMD-SHELL") => self.shell(&test[1]),
            Some("CMD") => self.exec(&test[1..]).status.success(),
            other => panic!("no health check: {other:?}"),
        }
    }

    /// Ends it by SIGTERM, as an engine does; its exit status.
    ///
    /// # Panics
    /// If it does not end within a minute.
    pub fn stop(mut self) -> Option<i32> {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
        until("its end", PATIENCE, || self.child.try_wait().expect("a child")).code()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that is found where only root looks too.
fn super_command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    command
}

fn output(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}; this takes root");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
