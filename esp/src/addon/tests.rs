//! Addons written, read back, and refused where firmware or stub would.

use super::*;

use proptest::prelude::*;

use crate::Uki;
use crate::pe::tests::pe_file;

fn addon() -> AddonImage {
    let sbat = Sbat::new("console", 1).unwrap();
    let mut addon = AddonImage::new(Architecture::X86_64, sbat);
    addon.cmdline = Some("console=ttyS0".to_owned());
    addon
}

fn target() -> AddonTarget {
    AddonTarget {
        architecture: Some(Architecture::X86_64),
        uname: Some("6.18.0".to_owned()),
        stub: Some(262),
    }
}

fn found(file: &[u8]) -> Vec<(bool, String)> {
    let findings = check_addon(file, &target());
    let told = |finding: &AddonFinding| (finding.is_refusal(), finding.to_string());
    findings.iter().map(told).collect()
}

#[test]
fn comes_back_as_it_was() {
    let mut all = addon();
    all.architecture = Architecture::Arm64;
    all.uname = Some("6.18.0".to_owned());
    all.ucode = Some(vec![1; 5000]);
    all.dtb = Some(vec![2; 1]);
    all.initrd = Some(vec![3; 4096]);
    for addon in [addon(), all] {
        let file = addon.to_bytes().unwrap();
        assert_eq!(AddonImage::parse(&file).unwrap(), addon);
        assert_eq!(addon.to_bytes().unwrap(), file, "same addon, same bytes");
    }
}

#[test]
fn stands_where_the_loaders_look() {
    let file = addon().to_bytes().unwrap();
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    assert_eq!(file.len(), 2048);
    // Entry point, alignment in memory and file, size in memory, size of headers.
    assert_eq!(
        [104, 120, 124, 144, 148].map(word),
        [4096, 4096, 512, 16384, 512]
    );
    let header = |number: usize| {
        let at = 328 + 40 * number;
        let name = String::from_utf8_lossy(&file[at..at + 8]).into_owned();
        (name, [8, 12, 16, 20, 36].map(|field| word(at + field)))
    };
    let text = (".text\0\0\0".to_owned(), [11, 4096, 512, 512, 0x6000_0020]);
    assert_eq!(header(0), text);
    let sbat = u32::try_from(addon().sbat.to_string().len()).unwrap();
    let expected = (
        ".sbat\0\0\0".to_owned(),
        [sbat, 8192, 512, 1024, 0x4000_0040],
    );
    assert_eq!(header(1), expected);
    let cmdline = (".cmdline".to_owned(), [13, 12288, 512, 1536, 0x4000_0040]);
    assert_eq!(header(2), cmdline);
    assert_eq!(found(&file), []);
}

#[test]
fn says_why_it_cannot_be_made() {
    let refused = |change: fn(&mut AddonImage)| {
        let mut addon = addon();
        change(&mut addon);
        addon.to_bytes().unwrap_err().to_string()
    };
    for (change, expected) in [
        (
            (|addon| addon.cmdline = None) as fn(&mut AddonImage),
            "the addon would be empty: it needs a command line, an initrd, microcode or a devicetree",
        ),
        (
            |addon| addon.cmdline = Some(String::new()),
            "the .cmdline section of the addon: it is empty",
        ),
        (
            |addon| addon.cmdline = Some("a ".to_owned()),
            "the .cmdline section of the addon: there is a space at its edge, which the stub removes",
        ),
        (
            |addon| addon.uname = Some("6\n18".to_owned()),
            "the .uname section of the addon: a control character is in it",
        ),
        (
            |addon| addon.architecture = Architecture::RiscV64,
            "cannot make an addon for riscv64: only for x86-64 and arm64",
        ),
    ] {
        assert_eq!(refused(change), expected);
    }
}

#[test]
fn reads_rows_for_revocation_as_shim_does() {
    let sbat = Sbat::new("trust", 2).unwrap();
    assert_eq!(
        sbat.to_string(),
        "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n\
         uki-addon.trust,2,ukikit,trust,2,https://uapi-group.org/specifications/specs/unified_kernel_image/\n"
    );
    assert_eq!(Sbat::parse(sbat.to_string().as_bytes()).unwrap(), sbat);
    assert_eq!(
        Sbat::parse(b"a,1,b,c,d,e\r\n\0rubbish")
            .unwrap()
            .to_string(),
        "a,1,b,c,d,e\n"
    );
    for row in [
        "a",
        "a,0,b,c,d,e",
        "a,x,b,c,d,e",
        "a,1,b,c,d",
        "a,1,b,c,d,e,f",
        ",1,b,c,d,e",
        "a,1,b,c,,e",
    ] {
        assert_eq!(
            Sbat::parse(row.as_bytes()).unwrap_err().to_string(),
            format!(
                "the .sbat section: the row `{row}` is not NAME,GENERATION and four more fields"
            )
        );
    }
    assert_eq!(
        Sbat::new("a,b", 1).unwrap_err().to_string(),
        "the .sbat section: `a,b` cannot name a component: letters, digits, `.`, `_` and `-` can"
    );
}

#[test]
fn says_what_firmware_would_not_load() {
    let damaged = |at: usize, bytes: &[u8]| {
        let mut file = addon().to_bytes().unwrap();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    for (file, expected) in [
        (b"#!/bin/sh".to_vec(), "at byte 0: this is not a PE file"),
        (damaged(64, b"Q"), "at byte 0: this is not a PE file"),
        (damaged(84, &[8]), "at byte 64: the PE headers are damaged"),
        (damaged(70, &[0]), "at byte 64: it has no sections"),
        (
            damaged(71, &[9]),
            "at byte 328: the section table is cut off",
        ),
        (
            damaged(86, &[1]),
            "at byte 64: its relocations are stripped, so it cannot be loaded at any address",
        ),
        (
            damaged(104, &[0, 0]),
            "at byte 64: its entry point is in no section",
        ),
        (
            damaged(120, &[0, 2]),
            "at byte 64: its sections are not aligned to pages in memory",
        ),
        (
            damaged(147, &[0x90]),
            "at byte 64: it takes more than 2 GiB of memory",
        ),
        (
            damaged(148, &[0, 1]),
            "at byte 64: SizeOfHeaders does not cover the section table, or is beyond the file",
        ),
        (
            damaged(156, &[3]),
            "at byte 64: its subsystem is not EFI application",
        ),
        (
            damaged(196, &[15]),
            "at byte 64: the size of the optional header does not fit its data directories",
        ),
        (
            damaged(232, &[8, 0, 0, 0, 8]),
            "at byte 64: the table of signatures is not what the file ends with",
        ),
        // .cmdline: over .sbat in memory, then in the file; out of the image, of the file, of its page.
        (
            damaged(408 + 13, &[0x20]),
            "at byte 408: section .cmdline overlaps another one in memory",
        ),
        (
            damaged(408 + 21, &[4]),
            "at byte 408: section .cmdline overlaps another one in the file",
        ),
        (
            damaged(408 + 14, &[1]),
            "at byte 408: section .cmdline is not inside the image in memory",
        ),
        (
            damaged(408 + 22, &[1]),
            "at byte 408: section .cmdline is cut off",
        ),
        (
            damaged(408 + 21, &[0]),
            "at byte 408: section .cmdline begins inside the headers",
        ),
        (
            damaged(408 + 12, &[1]),
            "at byte 408: section .cmdline is not aligned in memory",
        ),
        (
            damaged(408 + 39, &[0xE0]),
            "at byte 408: section .cmdline can be written and run",
        ),
    ] {
        let expected = format!("firmware would not load it: {expected}");
        assert_eq!(found(&file), [(true, expected)]);
    }
    assert_eq!(
        found(&damaged(158, &[0, 0])),
        [(
            false,
            "it is not marked as NX compatible, which some firmware asks for".to_owned()
        )]
    );
    let mut cut = addon().to_bytes().unwrap();
    cut.truncate(2047);
    assert_eq!(
        AddonImage::parse(&cut).unwrap_err().to_string(),
        "at byte 408: section .cmdline is cut off"
    );
}

#[test]
fn says_what_the_stub_would_pass_over() {
    let sbat = b"sbat,1,a,b,c,d\n";
    let file = |sections: &[(&'static str, &[u8])]| {
        let mut all: Vec<(&'static str, &[u8])> = vec![(".sbat", sbat)];
        all.extend(sections);
        write(Architecture::X86_64, &all).unwrap()
    };
    let initrd: (&'static str, &[u8]) = (".initrd", b"070701");
    for (sections, expected) in [
        (vec![initrd, (".uname", b"6.18.0")], None),
        (vec![initrd, (".uname", b"6.18.0\0")], None),
        (
            vec![initrd, (".uname", b"6.18\0")],
            Some((true, "it is for the kernel 6.18, the UKI has 6.18.0")),
        ),
        (
            vec![initrd, (".uname", b"6.18")],
            Some((
                false,
                "its kernel version has no NUL at its end, so it fits every version that begins with 6.18",
            )),
        ),
        (
            vec![initrd, (".linux", b"MZ")],
            Some((true, "it has a .linux section, so it is a UKI and no addon")),
        ),
        (
            vec![(".osrel", b"ID=a")],
            Some((
                true,
                "it has none of .cmdline, .dtb, .dtbauto, .initrd and .ucode, so the stub passes over it",
            )),
        ),
        (
            vec![initrd, initrd],
            Some((
                false,
                "it has two .initrd sections, and the stub reads the first",
            )),
        ),
    ] {
        let expected: Vec<_> = expected
            .map(|(refusal, what)| (refusal, what.to_owned()))
            .into_iter()
            .collect();
        assert_eq!(found(&file(&sections)), expected);
    }
    let plain = |section: &'static str, bytes: &'static [u8]| {
        write(
            Architecture::X86_64,
            &[(section, bytes), (".cmdline", b"quiet")],
        )
        .unwrap()
    };
    for (file, expected) in [
        (plain(".osrel", b"ID=a"), "it has no .sbat section"),
        (
            plain(".sbat", b"a,1,b,c,d,e"),
            "its .sbat section has no row for `sbat`",
        ),
        (
            plain(".sbat", b"rubbish"),
            "its .sbat section: the row `rubbish` is not NAME,GENERATION and four more fields",
        ),
    ] {
        assert_eq!(
            found(&file),
            [(false, format!("shim would not load it: {expected}"))]
        );
    }
}

#[test]
fn says_what_it_does_not_fit() {
    let mut arm = addon();
    arm.architecture = Architecture::Arm64;
    let file = arm.to_bytes().unwrap();
    assert_eq!(
        found(&file),
        [(true, "it is for arm64, the UKI for x86-64".to_owned())]
    );
    assert_eq!(check_addon(&file, &AddonTarget::default()), []);

    let uki = pe_file(&[
        (".linux", b"MZ"),
        (".sdmagic", b"#### LoaderInfo: systemd-stub 256.7-1 ####\0"),
    ]);
    let target = AddonTarget::of(&Uki::parse(&uki).unwrap());
    assert_eq!(target.stub, Some(256));
    let mut with_initrd = addon();
    with_initrd.initrd = Some(b"070701".to_vec());
    let findings = check_addon(&with_initrd.to_bytes().unwrap(), &target);
    assert_eq!(
        findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["its .initrd section is read by systemd-stub 257 and later, the UKI has 256"]
    );
}

proptest! {
    /// Any bytes, and any damage to a good addon, are judged; what firmware would load can be read.
    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600), at in 0_usize..2048, byte: u8) {
        let _ = check_addon(&bytes, &target());
        let mut file = addon().to_bytes().unwrap();
        file[at] = byte;
        let _ = AddonImage::parse(&file);
        if check_addon(&file, &AddonTarget::default()).is_empty() {
            prop_assert!(Pe::parse(&file).is_ok());
        }
        let _ = check_addon(&file[..at], &target());
    }
}
