//! The part of cloud-config that can be said by credentials: host name, users, keys, hashed passwords, files, mounts. The rest is
//! named as ignored, never left out in silence.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::document::{CLOUD_CONFIG, Document, is_true, scalar, texts};
use crate::host::{AbsolutePath, MountSource};

/// What a cloud-config asks for.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CloudConfig {
    /// `hostname`, else `fqdn`.
    pub hostname: Option<String>,
    /// `users`; root's are keys and a password only.
    pub users: Vec<User>,
    /// `write_files`
    pub files: Vec<WrittenFile>,
    /// `mounts`, as lines of fstab(5).
    pub mounts: Vec<[String; 6]>,
    /// What is not done, and why.
    pub ignored: Vec<String>,
}

/// A user.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number, if one was given.
    pub uid: Option<u32>,
    /// Who it is.
    pub gecos: String,
    /// Its home directory, if one was given.
    pub home: Option<String>,
    /// Its shell.
    pub shell: Option<String>,
    /// Further groups.
    pub groups: Vec<String>,
    /// Lines of `authorized_keys`.
    pub keys: Vec<String>,
    /// The hash of its password, as crypt(5) has it.
    pub hash: Option<Zeroizing<String>>,
    /// Rules of sudoers(5).
    pub sudo: Vec<String>,
}

/// A file.
#[derive(Debug)]
#[non_exhaustive]
pub struct WrittenFile {
    /// Where.
    pub path: AbsolutePath,
    /// What. It may be a secret.
    pub content: Zeroizing<Vec<u8>>,
    /// Mode in octal.
    pub mode: u16,
}

/// Below these a file may be written: what belongs to the administrator of a system.
const PLACES: [&str; 6] = ["/etc/", "/home/", "/opt/", "/root/", "/srv/", "/usr/local/"];

impl CloudConfig {
    /// Reads user-data. What is no cloud-config is told as ignored.
    ///
    /// # Errors
    ///
    /// YAML that cannot be read, and values of known keys that make no sense. No value stands in the error.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut config = Self::default();
        if bytes.trim_ascii().is_empty() {
            return Ok(config);
        }
        let first = bytes
            .split(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        if first.trim_ascii_end() != CLOUD_CONFIG.as_bytes() {
            config.ignore("user-data that does not begin with #cloud-config: scripts and archives are not run");
            return Ok(config);
        }
        let document = Document::parse(bytes)?;
        config.read(document.top())?;
        Ok(config)
    }

    fn ignore(&mut self, what: impl Into<String>) {
        self.ignored.push(what.into());
    }

    fn read(&mut self, top: &Map<String, Value>) -> Result<()> {
        let name = |key: &str| top.get(key).and_then(scalar);
        self.hostname = name("hostname").or(name("fqdn"));
        for (key, value) in top {
            match key.as_str() {
                "hostname" | "fqdn" => {}
                "users" => self.users(value)?,
                "ssh_authorized_keys" => self.user("root").keys.extend(texts(value)),
                "chpasswd" => self.passwords(value)?,
                "write_files" => self.files(value)?,
                "mounts" => self.mounts(value)?,
                other => self.ignore(format!(
                    "{}: it is not something that credentials do",
                    shown(other)
                )),
            }
        }
        Ok(())
    }

    /// The user of this name, a new one if need be.
    fn user(&mut self, name: &str) -> &mut User {
        let known = self.users.iter().position(|user| user.name == name);
        let at = known.unwrap_or_else(|| {
            self.users.push(User {
                name: name.to_owned(),
                ..User::default()
            });
            self.users.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "it was found or pushed above")]
        &mut self.users[at]
    }

    fn users(&mut self, value: &Value) -> Result<()> {
        for (at, user) in list(value, "users")?.iter().enumerate() {
            let place = || format!("users, entry {}", at + 1);
            match user {
                Value::String(name) if name == "default" => {
                    self.ignore("users: default: no image names one here");
                }
                Value::Object(user) => self.read_user(user).with_context(place)?,
                _ => self.ignore(format!("{}: it is no mapping", place())),
            }
        }
        Ok(())
    }

    fn read_user(&mut self, told: &Map<String, Value>) -> Result<()> {
        let name = told
            .get("name")
            .and_then(scalar)
            .context("it has no name")?;
        ensure!(is_user_name(&name), "its name is none of a user");
        let text = |key: &str| told.get(key).and_then(scalar);
        let mut ignored = Vec::new();
        let user = self.user(&name);
        for (key, value) in told {
            match key.as_str() {
                "name" => {}
                "gecos" => {
                    user.gecos = text(key)
                        .filter(|gecos| is_field(gecos))
                        .context("gecos has `:`, `\"` or a control character")?
                }
                "homedir" => user.home = Some(path(value).context("homedir is no absolute path")?),
                "shell" => user.shell = Some(path(value).context("shell is no absolute path")?),
                "uid" => {
                    user.uid = Some(
                        text(key)
                            .and_then(|uid| uid.parse().ok())
                            .context("uid is no number")?,
                    )
                }
                "groups" => user.groups.extend(texts(value)),
                "primary_group" if text(key).as_ref() == Some(&name) => {}
                "ssh_authorized_keys" => user.keys.extend(texts(value)),
                "passwd" | "hashed_passwd" => user.hash = hash(value)?,
                "lock_passwd" | "no_create_home" | "no_user_group" if !is_true(Some(value)) => {}
                "lock_passwd" => {}
                "sudo" if !value.is_boolean() && !value.is_null() => {
                    user.sudo.extend(rules(value)?)
                }
                "sudo" => {}
                other => ignored.push(format!("users, {name}: {}", shown(other))),
            }
        }
        ensure!(
            user.groups.iter().all(|group| is_user_name(group)),
            "groups has a name that is none"
        );
        ensure!(
            user.keys.iter().all(|key| !key.contains(char::is_control)),
            "ssh_authorized_keys has more than a line in one entry"
        );
        // A lock is what a user without a hash has anyway.
        if is_true(told.get("lock_passwd")) {
            user.hash = None;
        }
        self.ignored.append(&mut ignored);
        Ok(())
    }

    fn passwords(&mut self, value: &Value) -> Result<()> {
        let map = value.as_object().context("chpasswd is no mapping")?;
        for (key, value) in map {
            if key != "users" {
                if key != "expire" || is_true(Some(value)) {
                    self.ignore(format!(
                        "chpasswd: {}: only users with a hash are read",
                        shown(key)
                    ));
                }
                continue;
            }
            for user in list(value, "chpasswd users")? {
                let name = user
                    .get("name")
                    .and_then(scalar)
                    .context("chpasswd: a user has no name")?;
                ensure!(is_user_name(&name), "chpasswd: a name is none of a user");
                let kind = user.get("type").and_then(scalar);
                match user.get("password") {
                    Some(password) if kind.as_deref() == Some("hash") => {
                        self.user(&name).hash = hash(password).context("chpasswd")?;
                    }
                    _ => self.ignore(format!("chpasswd, {name}: only `type: hash` is read, never a password in plain text")),
                }
            }
        }
        Ok(())
    }

    fn files(&mut self, value: &Value) -> Result<()> {
        for (at, file) in list(value, "write_files")?.iter().enumerate() {
            let place = || format!("write_files, entry {}", at + 1);
            let file = file
                .as_object()
                .with_context(|| format!("{}: it is no mapping", place()))?;
            match written(file).with_context(place)? {
                Ok(file) => self.files.push(file),
                Err(reason) => self.ignore(format!("{}: {reason}", place())),
            }
        }
        Ok(())
    }

    fn mounts(&mut self, value: &Value) -> Result<()> {
        for (at, mount) in list(value, "mounts")?.iter().enumerate() {
            let place = format!("mounts, entry {}", at + 1);
            match line(&texts(mount)).with_context(|| place.clone())? {
                Some(line) => self.mounts.push(line),
                None => self.ignore(format!("{place}: it names no device and no place")),
            }
        }
        Ok(())
    }
}

/// A key as it may stand in a message.
fn shown(key: &str) -> String {
    let short: String = key
        .chars()
        .filter(|char| !char.is_control())
        .take(40)
        .collect();
    short
}

fn list<'a>(value: &'a Value, what: &str) -> Result<&'a Vec<Value>> {
    value
        .as_array()
        .with_context(|| format!("{what}: it is no list"))
}

/// As systemd wants the names of users and groups.
fn is_user_name(name: &str) -> bool {
    let first = name.starts_with(|char: char| char.is_ascii_lowercase() || char == '_');
    let rest = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte));
    first && rest && name.len() <= 31
}

/// What a field of passwd(5), and quotes of sysusers.d(5), hold.
fn is_field(text: &str) -> bool {
    !text.contains([':', '"', '\\', '%']) && !text.contains(char::is_control)
}

fn path(value: &Value) -> Option<String> {
    let text = scalar(value)?;
    let path = AbsolutePath::try_from(text.clone()).ok()?;
    let plain = is_field(&text) && !text.contains(char::is_whitespace);
    (plain && path.as_str() != "/").then_some(text)
}

/// A hash of crypt(5). Something locked is no password.
fn hash(value: &Value) -> Result<Option<Zeroizing<String>>> {
    let hash = Zeroizing::new(scalar(value).unwrap_or_default());
    if hash.is_empty() || hash.starts_with(['!', '*']) {
        return Ok(None);
    }
    let sound = hash
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b':');
    ensure!(
        hash.starts_with('$') && sound,
        "the password is no hash as crypt(5) has it"
    );
    Ok(Some(hash))
}

fn rules(value: &Value) -> Result<Vec<String>> {
    let rules: Vec<String> = match value {
        Value::Array(rules) => rules.iter().filter_map(scalar).collect(),
        other => scalar(other).into_iter().collect(),
    };
    ensure!(
        rules.iter().all(|rule| !rule.contains(char::is_control)),
        "sudo has more than a line in one rule"
    );
    Ok(rules)
}

/// A file, or why it is not written.
fn written(file: &Map<String, Value>) -> Result<Result<WrittenFile, String>> {
    let path = file
        .get("path")
        .and_then(scalar)
        .context("it has no path")?;
    let path = AbsolutePath::try_from(path)
        .ok()
        .context("its path is not absolute, or has `.` or `..`")?;
    if !PLACES.iter().any(|place| path.as_str().starts_with(place)) {
        return Ok(Err(format!(
            "{path} is none of the known places: {}",
            PLACES.join(" ")
        )));
    }
    let owner = file.get("owner").and_then(scalar);
    if owner.is_some_and(|owner| owner != "root:root" && owner != "root") {
        return Ok(Err(format!("{path} is not to be root's")));
    }
    if is_true(file.get("append")) {
        return Ok(Err(format!("{path} is to be appended to")));
    }
    let text = Zeroizing::new(file.get("content").and_then(scalar).unwrap_or_default());
    let content = match file.get("encoding").and_then(scalar).as_deref() {
        None | Some("text/plain") => Zeroizing::new(text.as_bytes().to_vec()),
        Some("b64" | "base64") => {
            let bare: Zeroizing<String> = Zeroizing::new(text.split_ascii_whitespace().collect());
            let decoded = STANDARD.decode(&*bare);
            Zeroizing::new(decoded.ok().context("its content is no Base64")?)
        }
        Some(_) => return Ok(Err(format!("{path} is in an encoding other than b64"))),
    };
    let mode = file
        .get("permissions")
        .and_then(scalar)
        .unwrap_or("0644".to_owned());
    let mode = u16::from_str_radix(mode.trim_start_matches("0o"), 8)
        .ok()
        .filter(|mode| *mode <= 0o7777);
    let mode = mode.context("its permissions are no mode in octal, in quotes")?;
    Ok(Ok(WrittenFile {
        path,
        content,
        mode,
    }))
}

/// A line of fstab(5), with what cloud-config leaves out; none for what has no device or place.
fn line(fields: &[String]) -> Result<Option<[String; 6]>> {
    let field = |at: usize, default: &str| fields.get(at).cloned().unwrap_or(default.to_owned());
    let device = field(0, "");
    let place = field(1, "");
    if device.is_empty() || place.is_empty() || device.starts_with("ephemeral") {
        return Ok(None);
    }
    let device = if device.contains(['/', '=', ':']) || device == "tmpfs" {
        device
    } else {
        format!("/dev/{device}")
    };
    MountSource::try_from(device.clone())
        .ok()
        .context("the device has a control character")?;
    if !matches!(place.as_str(), "none" | "swap") {
        AbsolutePath::try_from(place.clone())
            .ok()
            .context("the place is not absolute, or has `.` or `..`")?;
    }
    let rest = [
        field(2, "auto"),
        field(3, "defaults,nofail"),
        field(4, "0"),
        field(5, "0"),
    ];
    let sound = |text: &String| !text.is_empty() && !text.contains(char::is_control);
    ensure!(
        rest.iter().all(sound),
        "a field is empty or has a control character"
    );
    let [kind, options, dump, pass] = rest;
    ensure!(
        [&dump, &pass]
            .iter()
            .all(|number| number.bytes().all(|byte| byte.is_ascii_digit())),
        "one of the last two fields is no number"
    );
    Ok(Some([device, place, kind, options, dump, pass]))
}
