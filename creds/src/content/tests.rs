//! What each format takes and refuses, as the readers themselves showed.

use proptest::prelude::*;

use super::*;

/// A format, texts it takes, and texts it refuses with the line and a part of the reason.
type Case = (
    Content,
    &'static [&'static str],
    &'static [(&'static str, Option<usize>, &'static str)],
);

/// What systemd 257 and 262 take and refuse, as their own programs showed it.
const CASES: &[Case] = &[
    (
        Content::Fstab,
        &[
            "",
            "# comment\n\n/dev/a / ext4\n",
            "LABEL=x none swap sw 0 0\n/dev/b /b xfs ro -1 0 more",
            "/dev/c relative/c ext4 defaults",
        ],
        &[
            ("/dev/a /a\n", Some(1), "fewer than three"),
            ("\n/dev/a none ext4\n", Some(2), "not a path"),
            ("/dev/a /a ext4 a b\n", Some(1), "not a number"),
            ("/dev/a /a ext4 a 0 b\n", Some(1), "not a number"),
        ],
    ),
    (
        Content::Unit,
        &[
            "",
            "[Service]\nExecStart=a \\\n b\\\n # comment\n\n[X-Mine]\n;c\nA=\n",
        ],
        &[
            ("A=1\n", Some(1), "before the first section"),
            ("[Unit]\n\nword\n", Some(3), "neither a section"),
            ("[Unit]\n = 1\n", Some(2), "no name"),
            ("[Unit\n", Some(1), "closing bracket"),
        ],
    ),
    (
        Content::UdevRules,
        &[
            "# c\nKERNEL==\"sda\", ENV{A}=\"b\\\"c\" SYMLINK+=e\"x\",\n",
            "ATTR{size}==\"1\", \\\n  GOTO=\"end\"\n",
            "KERNEL==i\"SDA\"",
        ],
        &[
            ("KERNEL==\"a\"\nKERNEL=\"sda\n", Some(2), "KEY"),
            ("just text\n", Some(1), "KEY"),
            ("A==\"b\", \\\nC\n", Some(1), "KEY"),
        ],
    ),
    (
        Content::Tmpfiles,
        &["f /a\nd+! \"/sp ace\" 0755\n\"d\" %t/x ~:0755 - - 1d\nL+ /l - - - - /x\nf$ /q\n"],
        &[
            ("f\n", Some(1), "fewer than two"),
            ("f a\n", Some(1), "not absolute"),
            ("y /a\n", Some(1), "its type is none"),
            ("foo /a\n", Some(1), "modifier"),
            ("f /a\nd /b 888\n", Some(2), "octal"),
            ("d /b 99999\n", Some(1), "octal"),
            ("f \"/a\n", Some(1), "not closed"),
        ],
    ),
    (
        Content::Sysusers,
        &["u a -\ng g1 55\nm a g1\nr - 500-900\nu! locked\n"],
        &[
            ("u\n", Some(1), "fewer than two"),
            ("x b\n", Some(1), "its type is none"),
            ("m a\n", Some(1), "names a group"),
            ("r x 1\n", Some(1), "has no name"),
            ("u b \"x\n", Some(1), "not closed"),
        ],
    ),
    (
        Content::Sysctl,
        &["; c\nkernel.x = 1\nkernel/y=2\n-kernel.z\n"],
        &[("kernel.x\n", Some(1), "not an assignment")],
    ),
    (
        Content::SshKeys,
        &[
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me@here\n",
            "command=\"a b\",no-pty ssh-rsa AAAAB3Nz+/==\n",
        ],
        &[
            ("\nhello\n", Some(2), "no key type"),
            ("ssh-rsa me@here\n", Some(1), "no key type"),
        ],
    ),
    (
        Content::Pulls,
        &[
            "tar,machine:foo:https://x/y.tar\n# c\nraw,portable::file:///y.raw\nraw,bootorigin:x:y.raw\n",
        ],
        &[
            ("raw:foo\n", Some(1), "fewer than three"),
            ("a:b:https://x\n", Some(1), "neither raw nor tar"),
            ("raw:n:ftp://x/y\n", Some(1), "no URL"),
        ],
    ),
    (
        Content::MachineId,
        &[
            "firmware",
            "0123456789abcdef0123456789ABCDEF",
            "01234567-89ab-cdef-0123-456789abcdef",
        ],
        &[
            (
                "0123456789abcdef0123456789abcdef\n",
                None,
                "ends in a newline",
            ),
            ("00000000000000000000000000000000", None, "neither 32"),
            ("0123456789abcdef", None, "neither 32"),
            ("0123-456789abcdef0123456789abcdef", None, "neither 32"),
        ],
    ),
    (
        Content::HostName,
        &[
            "a",
            "a.b.c.",
            "a-b",
            "web-????",
            "a$b",
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        ],
        &[
            ("a\n", None, "ends in a newline"),
            ("a.", None, "not a host name"),
            ("a_b", None, "not a host name"),
            ("-a", None, "not a host name"),
            ("a-", None, "not a host name"),
            ("a..b", None, "not a host name"),
            ("", None, "not a host name"),
            (
                "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                None,
                "longer than 64",
            ),
        ],
    ),
    (
        Content::HashedPassword,
        &[
            "$6$salt$hash",
            "$y$j9T$a$b",
            "!*",
            "",
            "!$5$a$b",
            "ab012345678./",
        ],
        &[
            ("$6$salt$hash\n", None, "ends in a newline"),
            ("hunter2", None, "no hash"),
            ("$6$a:b", None, "colon"),
        ],
    ),
    (
        Content::Path,
        &["/bin/sh"],
        &[
            ("/bin/sh\n", None, "ends in a newline"),
            ("sh", None, "not an absolute"),
        ],
    ),
    (
        Content::Word(&["auto", "skip"]),
        &["auto"],
        &[
            ("auto\n", None, "ends in a newline"),
            ("Auto", None, "none of the words"),
        ],
    ),
    (
        Content::Value,
        &["de", ""],
        &[
            ("de\n", None, "ends in a newline"),
            ("a\nb", None, "more than one line"),
        ],
    ),
    (
        Content::Json,
        &["{\n \"a\": 1\n}\n"],
        &[("[]", None, "not an object"), ("{", None, "not JSON")],
    ),
    (Content::Text, &["", "a\nb"], &[("a\n\0", Some(2), "NUL")]),
    (Content::Bytes, &["\0"], &[]),
];

#[test]
fn takes_and_refuses_what_the_readers_do() {
    for (content, good, bad) in CASES {
        for text in *good {
            assert_eq!(
                content.check(text.as_bytes()),
                Ok(()),
                "{content:?} {text:?}"
            );
        }
        for (text, line, what) in *bad {
            let Err(violation) = content.check(text.as_bytes()) else {
                panic!("{content:?} takes {text:?}");
            };
            assert_eq!(violation.line, *line, "{content:?} {text:?}: {violation}");
            assert!(
                violation.what.contains(what),
                "{content:?} {text:?}: {violation}"
            );
        }
    }
}

#[test]
fn what_is_not_text_is_refused_with_its_line() {
    let violation = Content::Text.check(b"a\nb\xff").unwrap_err();
    assert_eq!(violation.to_string(), "line 2: it is not UTF-8 text");
    assert_eq!(Content::Bytes.check(b"\xff"), Ok(()));
}

#[test]
fn unit_names_inside_names() {
    for (name, good) in [
        ("systemd.extra-unit.a.service", true),
        ("systemd.extra-unit.dev-disk-by\\x2dlabel-x.swap", true),
        ("systemd.extra-unit.foo", false),
        ("systemd.extra-unit..service", false),
        ("systemd.extra-unit.a b.service", false),
        ("systemd.unit-dropin.a@.service", true),
        ("systemd.unit-dropin.a.service~b c", true),
        ("systemd.unit-dropin.a.service~", false),
        ("systemd.unit-dropin.a.b", false),
        ("network.network.foo", true),
    ] {
        assert_eq!(check_unit_name(name).is_ok(), good, "{name}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(data: Vec<u8>, text in "[ -~\n]{0,80}") {
        for (content, ..) in CASES {
            let _ = content.check(&data);
            let _ = content.check(text.as_bytes());
        }
    }
}
