//! An ESP to check, built from values: UKIs with made-up initrds, images signed with the test keys, credentials.

use std::fs;
use std::io::Cursor;
use std::path::PathBuf;
use std::process::Output;

use rand_core::UnwrapErr;
use serde_json::Value;
use tempfile::TempDir;
use ukikit_creds::{
    Credential, HostIdentity, Key, LINE, PcrPolicy, PolicyKey, Secret, SignedPolicy, Timestamp,
    TpmBinding,
};
use ukikit_sysext::erofs::Compression;
use ukikit_sysext::{
    Architecture, Certificate, Entry, ImageClass, KeyPair, Plan, PrivateKey, Release, Scope, Tree,
};

use crate::support::{identities, pe, schema, ukikit, vector};

/// A room with an ESP in it.
pub(crate) struct Scene(TempDir);

impl Scene {
    pub(crate) fn new() -> Self {
        let scene = Self(TempDir::new().unwrap());
        fs::create_dir(scene.path("esp")).unwrap();
        scene
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file of the ESP.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path("esp").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A UKI `EFI/Linux/NAME.efi`.
    pub(crate) fn uki(&self, name: &str, vendor: &Vendor) {
        self.write(&format!("EFI/Linux/{name}.efi"), vendor.uki_file());
    }

    /// A companion of that UKI.
    pub(crate) fn own(&self, uki: &str, file: &str, content: impl AsRef<[u8]>) {
        self.write(&format!("EFI/Linux/{uki}.efi.extra.d/{file}"), content);
    }

    pub(crate) fn check(&self, arguments: &[&str]) -> Output {
        let mut check = ukikit();
        check
            .current_dir(self.0.path())
            .arg("check")
            .args(arguments);
        check.output().unwrap()
    }

    /// What `check --json=short` finds: rule and file of each, sorted.
    pub(crate) fn findings(&self, arguments: &[&str]) -> Vec<(String, String)> {
        let output = self.check(&[arguments, &["--json=short"]].concat());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
            panic!("{}", String::from_utf8_lossy(&output.stderr));
        });
        schema::assert_valid("check", &report);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut found: Vec<_> = report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (text(&row["rule"]), text(&row["file"])))
            .collect();
        found.sort();
        found
    }
}

/// A vendor's UKI, as far as a check looks at it.
pub(crate) struct Vendor {
    pub(crate) systemd: u32,
    pub(crate) cmdline: String,
    /// Left out of the initrd, by path.
    pub(crate) without: Vec<&'static str>,
    /// More files of the initrd.
    pub(crate) with: Vec<(String, Vec<u8>)>,
}

pub(crate) const KERNEL: &str = "6.18.0";
const OS_RELEASE: &[u8] = b"ID=vendor\nVERSION_ID=1\n";

impl Default for Vendor {
    fn default() -> Self {
        Self {
            systemd: 262,
            cmdline: "quiet".into(),
            without: Vec::new(),
            with: Vec::new(),
        }
    }
}

impl Vendor {
    pub(crate) fn uki_file(&self) -> Vec<u8> {
        let initrd = self.initrd();
        pe::addon(&[
            (".osrel", OS_RELEASE),
            (".cmdline", self.cmdline.as_bytes()),
            (".initrd", &initrd),
            (".uname", KERNEL.as_bytes()),
            (".linux", b"a kernel"),
        ])
    }

    pub(crate) fn initrd(&self) -> Vec<u8> {
        let modules = format!("usr/lib/modules/{KERNEL}");
        let certificate = fs::read(vector("ddi/keys/rsa2048.crt")).unwrap();
        let built_in = "kernel/drivers/block/loop.ko\nkernel/drivers/md/dm-verity.ko\nkernel/fs/overlayfs/overlay.ko\n\
                        kernel/fs/erofs/erofs.ko\n";
        let library = format!("usr/lib/systemd/libsystemd-shared-{}.so", self.systemd);
        let mut files: Vec<(String, Vec<u8>)> = vec![
            ("etc/os-release".into(), OS_RELEASE.to_vec()),
            ("usr/bin/systemd-sysext".into(), Vec::new()),
            ("usr/bin/tool".into(), b"of the initrd".to_vec()),
            ("usr/share/data/file".into(), b"of the initrd".to_vec()),
            ("usr/lib/libc.so.6".into(), Vec::new()),
            ("usr/lib/libcryptsetup.so.12".into(), Vec::new()),
            ("usr/lib/libtss2-esys.so.0".into(), Vec::new()),
            ("usr/lib/libtss2-mu.so.0".into(), Vec::new()),
            (library, Vec::new()),
            ("usr/lib/systemd/system/base.service".into(), Vec::new()),
            ("usr/lib/systemd/system/sysinit.target".into(), Vec::new()),
            ("usr/lib/verity.d/signer.crt".into(), certificate),
            (format!("{modules}/modules.builtin"), built_in.into()),
            (format!("{modules}/modules.dep"), b"kernel/a.ko:\n".to_vec()),
        ];
        files.retain(|(path, _)| !self.without.contains(&path.as_str()));
        files.extend(self.with.iter().cloned());
        cpio(&files)
    }
}

/// A newc archive of these files and their directories (cpio(5)).
fn cpio(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut entries: Vec<(&str, u32, &[u8])> = Vec::new();
    for (path, content) in files {
        for (end, _) in path.match_indices('/') {
            if !entries.iter().any(|(other, ..)| *other == &path[..end]) {
                entries.push((&path[..end], 0o040_755, b""));
            }
        }
        entries.push((path, 0o100_755, content));
    }
    entries.push(("TRAILER!!!", 0, b""));
    let mut archive = Vec::new();
    for (inode, (path, mode, content)) in entries.into_iter().enumerate() {
        let (name_size, size) = (path.len() + 1, content.len());
        let header = format!(
            "070701{inode:08X}{mode:08X}{0:08X}{0:08X}{1:08X}{0:08X}{size:08X}{0:08X}{0:08X}{0:08X}{0:08X}{name_size:08X}{0:08X}",
            0, 1
        );
        archive.extend(header.bytes().chain(path.bytes()).chain([0]));
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive
}

/// A signed image.
pub(crate) struct Feature {
    pub(crate) name: &'static str,
    pub(crate) class: ImageClass,
    pub(crate) scope: Scope,
    pub(crate) signer: &'static str,
    pub(crate) architecture: &'static str,
    /// `KEY=VALUE` of the release file.
    pub(crate) release: Vec<(&'static str, &'static str)>,
    pub(crate) files: Vec<(&'static str, Vec<u8>)>,
    pub(crate) links: Vec<(&'static str, &'static str)>,
    pub(crate) compression: Compression,
}

impl Feature {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            class: ImageClass::Sysext,
            scope: Scope::Initrd,
            signer: "rsa2048",
            architecture: "x86-64",
            release: Vec::new(),
            files: Vec::new(),
            links: Vec::new(),
            compression: Compression::None,
        }
    }

    pub(crate) fn file(mut self, path: &'static str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((path, content.into()));
        self
    }

    pub(crate) fn link(mut self, path: &'static str, target: &'static str) -> Self {
        self.links.push((path, target));
        self
    }

    pub(crate) fn field(mut self, key: &'static str, value: &'static str) -> Self {
        self.release.push((key, value));
        self
    }

    pub(crate) fn build(self) -> Vec<u8> {
        let mut tree = Tree::new();
        let root = if self.class == ImageClass::Confext {
            "etc"
        } else {
            "usr"
        };
        tree.insert(root, Entry::directory()).unwrap();
        for (path, content) in self.files {
            tree.insert(path, Entry::file(content)).unwrap();
        }
        for (path, target) in self.links {
            tree.insert(path, Entry::symlink(target)).unwrap();
        }
        let architecture: Architecture = self.architecture.parse().unwrap();
        let mut plan = Plan::new(self.name.parse().unwrap(), architecture, tree);
        (plan.class, plan.scopes) = (self.class, vec![self.scope]);
        plan.compression = self.compression;
        plan.base = Some(Release::parse(OS_RELEASE).unwrap());
        for (key, value) in self.release {
            plan.release.set(key, value).unwrap();
        }
        if plan.release.value("ID").is_some() {
            plan.base = None;
        }
        let pem =
            |suffix: &str| fs::read(vector(&format!("ddi/keys/{}.{suffix}", self.signer))).unwrap();
        let key = PrivateKey::from_pem(&pem("key"), None).unwrap();
        let signer = KeyPair::new(key, Certificate::from_pem(&pem("crt")).unwrap()).unwrap();
        let mut image = Cursor::new(Vec::new());
        plan.build(&signer, &mut image).unwrap();
        image.into_inner()
    }
}

/// What a credential is sealed to.
pub(crate) fn binding(state: &str, pinned: bool, policy: PcrPolicy) -> TpmBinding {
    let identity = HostIdentity::from_json(identities::of_vector(state).as_bytes()).unwrap();
    let parent = identity.parent(pinned).unwrap();
    TpmBinding { parent, policy }
}

/// Bound to PCR 12 as it is when nothing was measured.
pub(crate) fn bound_to_pcr_12() -> PcrPolicy {
    PcrPolicy {
        literal: [(12, vec![0; 32])].into(),
        ..PcrPolicy::default()
    }
}

/// Open to whatever PCR 11 the key has signed.
pub(crate) fn signed() -> PcrPolicy {
    let pem = fs::read(vector("creds/keys/pk1.pem")).unwrap();
    let signed = SignedPolicy {
        key: PolicyKey::from_pem(&pem).unwrap(),
        pcrs: [11].into_iter().collect(),
    };
    PcrPolicy {
        signed: Some(signed),
        ..PcrPolicy::default()
    }
}

/// A credential of that name, in Base64.
pub(crate) fn credential(name: &str, key: &Key<'_>) -> Vec<u8> {
    sized_credential(name, key, 16, None)
}

pub(crate) fn sized_credential(
    name: &str,
    key: &Key<'_>,
    size: usize,
    not_after: Option<Timestamp>,
) -> Vec<u8> {
    let made = Timestamp::from_micros(1_600_000_000_000_000);
    let secret = Secret::new(vec![b'x'; size]);
    let mut credential = Credential::new(Some(name.parse().unwrap()), made, secret);
    credential.not_after = not_after;
    let file = credential
        .encrypt(key, &mut UnwrapErr(getrandom::SysRng))
        .unwrap();
    file.to_text(LINE).into_bytes()
}

/// A shared object that asks for a library.
pub(crate) fn elf_that_needs(library: &str) -> Vec<u8> {
    elf(library, None)
}

/// The same, looked for in this directory first.
pub(crate) fn elf_that_needs_in(library: &str, directory: &str) -> Vec<u8> {
    elf(library, Some(directory))
}

/// Just enough of ELF for its dynamic section ("ELF-64 Object File Format").
fn elf(library: &str, runpath: Option<&str>) -> Vec<u8> {
    let strings = format!("\0{library}\0{}\0", runpath.unwrap_or_default()).into_bytes();
    let mut entries = vec![[1, 1]]; // NEEDED
    entries.extend(runpath.map(|_| [29, library.len() + 2])); // RUNPATH
    entries.push([0, 0]);
    let word = |value: usize| (value as u64).to_le_bytes();
    let half = |value: u32| value.to_le_bytes();
    let (strings_at, dynamic_at) = (64, 64 + strings.len().next_multiple_of(8));
    let dynamic_size = 16 * entries.len();
    let sections_at = dynamic_at + dynamic_size;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([3, 0, 62, 0, 1, 0, 0, 0]); // shared object, x86-64
    file.extend([word(0), word(0), word(sections_at)].concat());
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 0, 0, 64, 0, 3, 0, 1, 0]);
    file.extend(&strings);
    file.resize(dynamic_at, 0);
    file.extend(entries.as_flattened().iter().flat_map(|value| word(*value)));
    let mut section = |kind: u32, at: usize, size: usize, link: u32, entry: usize| {
        file.extend([half(0), half(kind)].concat());
        file.extend([word(0), word(0), word(at), word(size)].concat());
        file.extend([half(link), half(0)].concat());
        file.extend([word(8), word(entry)].concat());
    };
    section(0, 0, 0, 0, 0);
    section(3, strings_at, strings.len(), 0, 0);
    section(6, dynamic_at, dynamic_size, 1, 16);
    file
}
