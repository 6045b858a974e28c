//! A PE file as far as signatures go: what is hashed, and the certificate table at its end ("PE Format",
//! section "The Attribute Certificate Table").
//!
//! ```text
//! headers ─ sections, one behind the other ─ the rest │ certificate table: (length, 0x0200, 0x0002, PKCS#7, pad to 8)…
//!    not hashed: CheckSum, the table's place and size    not hashed
//! ```

use std::ops::Range;

use object::endian::LittleEndian as LE;
use object::pe::{
    IMAGE_NT_OPTIONAL_HDR32_MAGIC, IMAGE_NT_OPTIONAL_HDR64_MAGIC, ImageDosHeader, ImageNtHeaders32,
    ImageNtHeaders64,
};
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader, optional_header_magic};
use ukikit_signing::KeyPair;

use super::{HASH, PeDigest, PeSignature};
use crate::{Bank, Error, FormatError, Hash};

/// Where the certificate table is named among the data directories.
const SECURITY_DIRECTORY: usize = 4;
/// Of a data directory, in bytes: place and size.
const DIRECTORY: usize = 8;
/// What stands in front of the optional header: "PE\0\0" and the COFF header.
const BEFORE_OPTIONAL: usize = 24;
/// Where CheckSum is in the optional header, in PE32 and PE32+ alike.
const CHECKSUM: usize = 64;
/// The table and each certificate in it begin at multiples of this.
const ALIGNMENT: usize = 8;
/// WIN_CERTIFICATE without its certificate.
const CERTIFICATE_HEADER: usize = 8;
/// WIN_CERT_REVISION_2_0 and WIN_CERT_TYPE_PKCS_SIGNED_DATA
const CERTIFICATE_KIND: [u8; 4] = [0x00, 0x02, 0x02, 0x00];

/// A PE file that can be signed - a UKI, an addon, a boot loader - with the signatures it has.
#[derive(Debug, Clone)]
pub struct SignablePe {
    /// The file without its certificate table, padded.
    body: Vec<u8>,
    /// How much of that was there before it was padded.
    unpadded: usize,
    layout: Layout,
    signatures: Vec<PeSignature>,
}

#[derive(Debug, Clone)]
struct Layout {
    checksum: usize,
    security: usize,
    /// In the order of the file.
    sections: Vec<Range<usize>>,
    /// Where the headers end.
    headers: usize,
    table: Option<Range<usize>>,
}

impl SignablePe {
    /// Reads a whole file.
    ///
    /// # Errors
    ///
    /// [`FormatError`] when it is no PE file, or one whose parts overlap, leave gaps or are cut off, so that
    /// tools would not agree about its digest; or with a certificate that is not PKCS#7.
    pub fn parse(file: &[u8]) -> Result<Self, FormatError> {
        let layout = Layout::of(file)?;
        let signatures = match &layout.table {
            Some(table) => signatures(file, table.clone())?,
            None => Vec::new(),
        };
        let end = layout
            .table
            .as_ref()
            .map_or(file.len(), |table| table.start);
        let mut body = file.get(..end).unwrap_or_default().to_vec();
        let unpadded = body.len();
        body.resize(unpadded.next_multiple_of(ALIGNMENT), 0);
        let mut image = Self {
            body,
            unpadded,
            layout,
            signatures,
        };
        image.put(image.layout.security, &[0; DIRECTORY]);
        Ok(image)
    }

    /// What a signature is over; the same before and after signing. With a time, in seconds since 1970, the
    /// signature will tell it.
    ///
    /// # Errors
    ///
    /// [`Error::Signing`] when PKCS#7 cannot hold the time.
    pub fn digest(&self, signing_time: Option<u64>) -> Result<PeDigest, Error> {
        PeDigest::new(HASH.digest_parts(self.hashed()), signing_time)
    }

    /// What firmware measures when it loads the file as it was read: without its checksum and signatures, and, unlike what is
    /// signed, without padding (TCG PC Client Platform Firmware Profile, "Measuring UEFI PE/COFF images").
    pub fn hash(&self, bank: Bank) -> Hash {
        let mut left = self.unpadded;
        let skipped = 4 + DIRECTORY;
        left = left.saturating_sub(skipped);
        let parts = self.hashed().map(|part| {
            let part = part.get(..left).unwrap_or(part);
            left -= part.len();
            part
        });
        bank.hash(&parts.collect::<Vec<_>>())
    }

    /// Its signatures, the oldest first. They are not checked.
    pub fn signatures(&self) -> &[PeSignature] {
        &self.signatures
    }

    /// Signs it, behind the signatures it has. Signing twice with the same key and time changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Signing`] when the key cannot be used.
    pub fn sign(&mut self, signer: &KeyPair, signing_time: Option<u64>) -> Result<(), Error> {
        let signature = self.digest(signing_time)?.sign(signer)?;
        self.attach(signature);
        Ok(())
    }

    /// Puts a signature behind those it has, unless it is there. It is not checked here.
    pub fn attach(&mut self, signature: PeSignature) {
        if !self.signatures.contains(&signature) {
            self.signatures.push(signature);
        }
    }

    /// Takes all signatures off.
    pub fn remove_signatures(&mut self) {
        self.signatures.clear();
    }

    /// The file, with its signatures and checksum.
    ///
    /// # Errors
    ///
    /// [`Error::PeSignature`] when the signatures end beyond 4 GiB, where no PE file reaches.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut file = self.clone();
        let table = file.certificate_table();
        if !table.is_empty() {
            let (place, size) = (u32::try_from(file.body.len()), u32::try_from(table.len()));
            let (Ok(place), Ok(size)) = (place, size) else {
                let what = "does not fit into a PE file".to_owned();
                return Err(Error::PeSignature { what });
            };
            let directory = [place.to_le_bytes(), size.to_le_bytes()].concat();
            file.put(file.layout.security, &directory);
            file.body.extend(table);
        }
        file.put(file.layout.checksum, &[0; 4]);
        let checksum = checksum(&file.body);
        file.put(file.layout.checksum, &checksum.to_le_bytes());
        Ok(file.body)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        // Both places were found to lie inside the headers, and these inside the file.
        let place = self.body.get_mut(at..at + bytes.len());
        if let Some(place) = place {
            place.copy_from_slice(bytes);
        }
    }

    fn certificate_table(&self) -> Vec<u8> {
        let mut table = Vec::new();
        for signature in &self.signatures {
            let der = signature.as_der();
            let size = u32::try_from(CERTIFICATE_HEADER + der.len()).unwrap_or(u32::MAX);
            table.extend(size.to_le_bytes());
            table.extend(CERTIFICATE_KIND);
            table.extend(der);
            table.resize(table.len().next_multiple_of(ALIGNMENT), 0);
        }
        table
    }

    /// The parts of the file that are hashed.
    fn hashed(&self) -> impl Iterator<Item = &[u8]> {
        let Layout {
            checksum,
            security,
            sections,
            headers,
            ..
        } = &self.layout;
        let end = sections.last().map_or(*headers, |section| section.end);
        let head = [
            0..*checksum,
            checksum + 4..*security,
            security + DIRECTORY..*headers,
        ];
        let ranges = head.into_iter().chain(sections.iter().cloned());
        ranges
            .chain(std::iter::once(end..self.body.len()))
            .map(|range| self.body.get(range).unwrap_or_default())
    }
}

impl Layout {
    fn of(file: &[u8]) -> Result<Self, FormatError> {
        let magic = optional_header_magic(file)
            .map_err(|_| FormatError::new(0_u64, "this is not a PE file"))?;
        match magic {
            IMAGE_NT_OPTIONAL_HDR32_MAGIC => Self::read::<ImageNtHeaders32>(file),
            IMAGE_NT_OPTIONAL_HDR64_MAGIC => Self::read::<ImageNtHeaders64>(file),
            _ => Err(FormatError::new(
                0_u64,
                "this is a PE file of an unknown kind, neither PE32 nor PE32+",
            )),
        }
    }

    fn read<Headers: ImageNtHeaders>(file: &[u8]) -> Result<Self, FormatError> {
        let start = ImageDosHeader::parse(file)
            .map_err(|_| FormatError::new(0_u64, "this is not a PE file"))?
            .nt_headers_offset();
        let mut end = u64::from(start);
        let (nt, directories) = Headers::parse(file, &mut end)
            .map_err(|_| FormatError::new(start, "the PE headers are damaged"))?;
        let table = nt
            .sections(file, end)
            .map_err(|_| FormatError::new(end, "the section table is cut off"))?;
        let optional = start as usize + BEFORE_OPTIONAL;
        let security =
            optional + size_of::<Headers::ImageOptionalHeader>() + SECURITY_DIRECTORY * DIRECTORY;
        let headers = nt.optional_header().size_of_headers() as usize;
        let Some(directory) = directories.iter().nth(SECURITY_DIRECTORY) else {
            let what = "the PE headers have no room to name a signature";
            return Err(FormatError::new(optional as u64, what));
        };
        if security + DIRECTORY > headers || headers > file.len() {
            let what = format!("the PE headers end at byte {headers}, which cannot be");
            return Err(FormatError::new(optional as u64, what));
        }
        let place = (
            directory.virtual_address.get(LE) as usize,
            directory.size.get(LE) as usize,
        );
        let ranges = table.iter().map(|section| {
            let start = section.pointer_to_raw_data.get(LE) as usize;
            start..start + section.size_of_raw_data.get(LE) as usize
        });
        let sections = sections(ranges.collect(), headers)?;
        let end = sections.last().map_or(headers, |section| section.end);
        Ok(Self {
            checksum: optional + CHECKSUM,
            security,
            headers,
            table: certificate_table(place, end, file.len())?,
            sections,
        })
    }
}

/// The sections that have data in the file, in its order. They must follow each other: tools differ in what they
/// hash when there are gaps.
fn sections(ranges: Vec<Range<usize>>, headers: usize) -> Result<Vec<Range<usize>>, FormatError> {
    let mut ranges: Vec<Range<usize>> = ranges
        .into_iter()
        .filter(|range| !range.is_empty())
        .collect();
    ranges.sort_by_key(|range| range.start);
    let mut end = headers;
    for range in &ranges {
        let start = range.start;
        if start < end {
            let what = "a section overlaps what stands before it";
            return Err(FormatError::new(start as u64, what));
        }
        if start > end {
            let what = format!("{} bytes here belong to no section", start - end);
            return Err(FormatError::new(end as u64, what));
        }
        end = range.end;
    }
    Ok(ranges)
}

/// The certificate table, which must be all that stands behind the rest.
fn certificate_table(
    (start, size): (usize, usize),
    sections_end: usize,
    file_size: usize,
) -> Result<Option<Range<usize>>, FormatError> {
    if sections_end > file_size {
        let what = "the last section is cut off";
        return Err(FormatError::new(file_size as u64, what));
    }
    if (start, size) == (0, 0) {
        return Ok(None);
    }
    let end = start + size;
    if start < sections_end || end != file_size || !start.is_multiple_of(ALIGNMENT) {
        let what = format!(
            "the certificate table, bytes {start} to {end}, is not what the file ends with at {file_size}"
        );
        return Err(FormatError::new(start as u64, what));
    }
    Ok(Some(start..end))
}

fn signatures(file: &[u8], table: Range<usize>) -> Result<Vec<PeSignature>, FormatError> {
    let mut signatures = Vec::new();
    let mut at = table.start;
    while at < table.end {
        let damaged = |what: &str| FormatError::new(at as u64, format!("certificate: {what}"));
        let header = file.get(at..at + CERTIFICATE_HEADER);
        let Some(&[a, b, c, d, ref kind @ ..]) = header else {
            return Err(damaged("is cut off"));
        };
        if *kind != CERTIFICATE_KIND {
            return Err(damaged("is not PKCS#7 of revision 2.0"));
        }
        let size = u32::from_le_bytes([a, b, c, d]) as usize;
        let end = at + size;
        let body = file.get(at + CERTIFICATE_HEADER..end);
        let body = body.filter(|_| end <= table.end);
        let body = body.ok_or_else(|| damaged("is cut off"))?;
        signatures.push(PeSignature::from_der(der_value(body)));
        at = end.next_multiple_of(ALIGNMENT);
    }
    Ok(signatures)
}

/// The DER value that bytes begin with: some tools count the padding behind it as part of the certificate.
fn der_value(bytes: &[u8]) -> &[u8] {
    let size = match bytes {
        [0x30, 0x82, a, b, ..] => 4 + usize::from(u16::from_be_bytes([*a, *b])),
        [0x30, 0x83, a, b, c, ..] => 5 + (u32::from_be_bytes([0, *a, *b, *c]) as usize),
        [0x30, 0x81, a, ..] => 3 + usize::from(*a),
        _ => bytes.len(),
    };
    bytes.get(..size).unwrap_or(bytes)
}

/// The sum of 16-bit words, carries added, plus the size ("PE Format", section "Optional Header"), of a file whose
/// own sum is zero.
fn checksum(file: &[u8]) -> u32 {
    let words = file.chunks(2).map(|pair| match pair {
        [low, high] => u32::from(u16::from_le_bytes([*low, *high])),
        [low] => u32::from(*low),
        _ => 0,
    });
    let sum = words.fold(0_u32, |sum, word| {
        let sum = sum + word;
        (sum & 0xFFFF) + (sum >> 16)
    });
    // No file of 4 GiB or more can name its signatures.
    let size = u32::try_from(file.len()).unwrap_or(u32::MAX);
    sum.wrapping_add(size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ukikit_signing::Certificates;

    use super::*;
    use crate::authenticode::tests::key_pair;

    const HEADERS: usize = 512;

    /// A PE32+ file with sections of 512 bytes each, and `tail` behind them.
    fn pe_file(sections: usize, tail: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..2].copy_from_slice(b"MZ");
        file[60] = 64;
        file.extend(b"PE\0\0");
        file.extend(0x8664_u16.to_le_bytes());
        file.extend(u16::try_from(sections).unwrap().to_le_bytes());
        file.extend([0; 12]);
        file.extend(240_u16.to_le_bytes());
        file.extend([0; 2]);
        let optional = file.len();
        file.extend(0x20b_u16.to_le_bytes());
        file.resize(optional + 240, 0);
        file[optional + 60..][..2].copy_from_slice(&512_u16.to_le_bytes());
        file[optional + 108] = 16;
        for number in 0..sections {
            let start = u32::try_from(HEADERS + 512 * number).unwrap();
            file.extend(*b".section");
            for field in [512, 0, 512, start] {
                file.extend(field.to_le_bytes());
            }
            file.extend([0; 16]);
        }
        file.resize(HEADERS, 0);
        file.resize(HEADERS + 512 * sections, b'x');
        file.extend(tail);
        file
    }

    fn signed(file: &[u8], signers: &[&str]) -> Vec<u8> {
        let mut image = SignablePe::parse(file).unwrap();
        for name in signers {
            image.sign(&key_pair(name), None).unwrap();
        }
        image.to_bytes().unwrap()
    }

    #[test]
    fn several_signatures_are_kept_and_each_verifies() {
        for tail in [&b""[..], b"odd"] {
            let file = pe_file(2, tail);
            let before = SignablePe::parse(&file).unwrap().digest(None).unwrap();
            let bytes = signed(&signed(&file, &["rsa2048"]), &["p256", "rsa2048"]);
            let image = SignablePe::parse(&bytes).unwrap();
            let digest = image.digest(None).unwrap();
            assert_eq!(digest.as_bytes(), before.as_bytes());
            let names = ["rsa2048", "p256"];
            assert_eq!(image.signatures().len(), names.len());
            for (name, signature) in names.into_iter().zip(image.signatures()) {
                let trusted = Certificates::new([key_pair(name).certificate().clone()]);
                signature.check(digest.as_bytes(), &trusted).unwrap();
            }
            assert_eq!(signed(&bytes, &["p256"]), bytes);
        }
    }

    #[test]
    fn taken_off_the_file_is_as_before() {
        let file = pe_file(2, b"");
        let mut image = SignablePe::parse(&signed(&file, &["rsa2048"])).unwrap();
        image.remove_signatures();
        let plain = SignablePe::parse(&file).unwrap().to_bytes().unwrap();
        assert_eq!(image.to_bytes().unwrap(), plain);
    }

    #[test]
    fn what_is_hashed_is_all_but_three_places() {
        let file = pe_file(1, b"");
        let digest = |file: &[u8]| {
            let image = SignablePe::parse(file).unwrap();
            image.digest(None).unwrap().as_bytes().to_vec()
        };
        let good = digest(&file);
        let optional = 64 + 24;
        for (at, counts) in [(2, true), (optional + 64, false), (600, true), (1023, true)] {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert_eq!(digest(&changed) != good, counts, "byte {at}");
        }
    }

    #[test]
    fn hostile_files_get_a_sentence() {
        let good = pe_file(2, b"");
        let section = 64 + 24 + 240;
        let security = 64 + 24 + 112 + 32;
        let with = |changes: &[(usize, u32)]| {
            let mut file = good.clone();
            for (at, value) in changes {
                file[*at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
            file
        };
        let twice = signed(&good, &["p256"]);
        let (mut cut, mut long, mut kind) = (twice.clone(), twice.clone(), twice.clone());
        cut.truncate(twice.len() - 8);
        long[1536..1540].copy_from_slice(&u32::MAX.to_le_bytes());
        kind[1542] = 9;
        for (file, expected) in [
            (b"MZ".to_vec(), "at byte 0: this is not a PE file"),
            (
                with(&[(section + 20, 100)]),
                "at byte 100: a section overlaps what stands before it",
            ),
            (
                with(&[(section + 60, 600)]),
                "at byte 600: a section overlaps what stands before it",
            ),
            (
                with(&[(section + 60, 2048)]),
                "at byte 1024: 1024 bytes here belong to no section",
            ),
            (
                with(&[(section + 56, 4096)]),
                "at byte 1536: the last section is cut off",
            ),
            (
                with(&[(148, 8)]),
                "at byte 88: the PE headers end at byte 8, which cannot be",
            ),
            (
                with(&[(148, u32::MAX)]),
                "at byte 88: the PE headers end at byte 4294967295, which cannot be",
            ),
            (
                with(&[(196, 4)]),
                "at byte 88: the PE headers have no room to name a signature",
            ),
            (
                with(&[(security, 512), (security + 4, 8)]),
                "at byte 512: the certificate table, bytes 512 to 520, is not what the file ends with at 1536",
            ),
            (long, "at byte 1536: certificate: is cut off"),
            (
                kind,
                "at byte 1536: certificate: is not PKCS#7 of revision 2.0",
            ),
        ] {
            assert_eq!(SignablePe::parse(&file).unwrap_err().to_string(), expected);
        }
        let error = SignablePe::parse(&cut).unwrap_err().to_string();
        assert!(
            error.contains(" is not what the file ends with at "),
            "{error}"
        );
    }

    proptest! {
        /// Any damage to a signed file is read or refused; what is read can be written and read again.
        #[test]
        fn never_panics(at in 0_usize..2200, value: u32) {
            let mut file = signed(&pe_file(2, b"tail"), &["p256"]);
            let at = at.min(file.len() - 4);
            file[at..at + 4].copy_from_slice(&value.to_le_bytes());
            if let Ok(image) = SignablePe::parse(&file) {
                let digest = image.digest(None).unwrap();
                let again = SignablePe::parse(&image.to_bytes().unwrap()).unwrap();
                let digest_again = again.digest(None).unwrap();
                prop_assert_eq!(digest.as_bytes(), digest_again.as_bytes());
                prop_assert_eq!(image.signatures(), again.signatures());
            }
        }
    }
}
