//! Images and credentials that are looked at before they are placed.

use std::io::Read;

use super::room::*;
use super::support::uki::pe_file;
use super::support::vendor::{KERNEL, able_initrd};

#[test]
fn what_cannot_be_verified_is_not_placed() {
    let room = Room::new();
    room.write("text.cred", b"secret!");
    room.write("binary.cred", &binary(&credential("binary", b"x")));
    room.write("big.cred", &vec![b'A'; 1024 * 1024 + 1]);
    room.write("none.addon.efi", &renamed(".osrel\0\0"));
    room.write("uki.addon.efi", &renamed(".linux\0\0"));
    room.write("junk.addon.efi", b"junk");
    let before = room.tree();
    for (file, reason) in [
        ("text.cred", "at byte 6: not a Base64 character\n"),
        (
            "binary.cred",
            "at byte 0: not a Base64 character\n\n\
             hint: this is a binary credential; for an initrd of systemd up to 261 add --encoding=binary\n",
        ),
        (
            "big.cred",
            "it has 1048577 bytes, and PID 1 takes credentials of up to 1 MiB\n",
        ),
        (
            "none.addon.efi",
            "it has none of .cmdline, .dtb, .dtbauto, .initrd and .ucode, so the stub passes over it\n",
        ),
        (
            "uki.addon.efi",
            "it has a .linux section, so it is a UKI and no addon\n",
        ),
        (
            "junk.addon.efi",
            "firmware would not load it: at byte 0: this is not a PE file\n",
        ),
    ] {
        let refused = room.esp("place", &[UKI, file]);
        assert_failed(
            &refused,
            &format!("error: cannot verify `{file}`: {reason}"),
        );
    }
    assert_eq!(room.tree(), before);
}

/// An image and the certificate of its signer, made by systemd-repart 262, as files of the room.
fn write_image(room: &Room) {
    let packed = vector("ddi/erofs/tiny-a.raw.xz");
    let mut image = Vec::new();
    liblzma::read::XzDecoder::new(&packed[..])
        .read_to_end(&mut image)
        .unwrap();
    room.write("tiny-a.sysext.raw", &image);
    room.write("rsa.crt", &vector("ddi/keys/rsa2048.crt"));
    room.write("other.crt", &vector("ddi/keys/other.crt"));
}

/// Why the image is refused where only another certificate is trusted.
const FOREIGN: &str = "signature: is by issuer `CN=ddi test vector a rsa2048` serial \
    7A:58:B1:4E:B6:15:ED:FE:24:D9:A2:DF:50:15:B5:1A:64:36:20:F3, which is no trusted certificate (and 1 more)\n";

#[test]
fn an_image_is_verified_against_the_given_certificate() {
    let room = Room::new();
    write_image(&room);
    let before = room.tree();
    assert_failed(
        &room.esp("place", &["--global", "tiny-a.sysext.raw"]),
        "error: cannot verify `tiny-a.sysext.raw`: no certificate is given, and no UKI to take one from\n\n\
         hint: name the signer's with --certificate=FILE\n",
    );
    let foreign = ["--global", "--certificate=other.crt", "tiny-a.sysext.raw"];
    let refused = room.esp("place", &foreign);
    assert_failed(
        &refused,
        &format!("error: cannot verify `tiny-a.sysext.raw`: {FOREIGN}"),
    );
    assert_eq!(room.tree(), before);
    let signed = ["--global", "--certificate=rsa.crt", "tiny-a.sysext.raw"];
    assert_done(
        &room.esp("place", &signed),
        "add      loader/extensions/tiny-a.sysext.raw (1991168 bytes)\n",
        "",
    );
}

#[test]
fn an_image_is_verified_against_the_initrd_of_its_uki() {
    let room = Room::new();
    write_image(&room);
    let uki = |certificates: &[&str]| {
        let initrd = able_initrd(262, "ID=vendor\n", certificates);
        pe_file(&[
            (".linux", b"kernel"),
            (".initrd", &initrd),
            (".uname", KERNEL.as_bytes()),
        ])
    };
    let place = [UKI, "tiny-a.sysext.raw"];
    let file = "esp/EFI/Linux/vendor+3-0.efi";
    for (certificates, sentence) in [
        (
            &[][..],
            "the initrd of the UKI has no certificate for images\n\n\
             hint: name the signer's with --certificate=FILE\n",
        ),
        (&["other.crt"], FOREIGN),
    ] {
        room.write(file, &uki(certificates));
        let refused = room.esp("place", &place);
        assert_failed(
            &refused,
            &format!("error: cannot verify `tiny-a.sysext.raw`: {sentence}"),
        );
    }
    room.write(file, &uki(&["other.crt", "rsa2048.crt"]));
    assert_done(
        &room.esp("place", &place),
        "add      EFI/Linux/vendor.efi.extra.d/tiny-a.sysext.raw (1991168 bytes)\n",
        "",
    );
}
