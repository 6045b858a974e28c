//! Two-step signing: the signature comes to a finished image. Its data and hash tree stay as they are; the
//! partitions are laid one behind the other, as in an image that is signed when it is built.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::Image;
use super::partitions::{self, Found, Partitions};
use crate::finding::Findings;
use crate::gpt::{self, Partition, Table};
use crate::plan::{guid, signature_partition};
use crate::{Certificate, Check, Error, Finding, PartitionType, Role, RootHash, RootHashSignature};

impl<R: Read + Seek + Send + 'static> Image<R> {
    /// The root hash that the image's partitions are named after, once every block was hashed and found to
    /// give it. Whether it is signed is not looked at.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is no data or verity partition or they do not agree, [`Error::ReadImage`].
    pub fn root_hash(&self) -> Result<RootHash, Error> {
        let partitions = self.partitions();
        let (data, verity) = data_and_verity(&partitions)?;
        let guids = (data.partition.guid, verity.partition.guid);
        let root_hash = RootHash::of_partition_guids(guids.0, guids.1);
        self.check_hash_tree(&partitions, &root_hash)?;
        Ok(root_hash)
    }

    /// Writes the image to `out`, all bytes from 0 on, with `signature` in the place of any other. The
    /// signature is checked against `certificate` before the first byte is written.
    ///
    /// # Errors
    ///
    /// As [`Image::root_hash`]; [`Error::Refused`] with each rule of the kernel or of systemd that the
    /// signature breaks, or when there are partitions that no extension has; [`Error::Write`].
    pub fn attach(
        &self,
        signature: &RootHashSignature,
        certificate: &Certificate,
        out: &mut (impl Write + Seek),
    ) -> Result<RootHash, Error> {
        let root_hash = self.root_hash()?;
        let text = signature_partition(signature.clone(), certificate, &root_hash)?;
        let partitions = self.partitions();
        let table = self.table_for(text.len() as u64)?;
        out.seek(SeekFrom::Start(gpt::FRONT_SIZE))
            .map_err(Error::write)?;
        for found in [&partitions.data, &partitions.verity].into_iter().flatten() {
            self.copy(found, out)?;
        }
        out.write_all(&text).map_err(Error::write)?;
        let end = table.partitions.iter().map(|last| last.offset + last.size);
        let size = end.max().unwrap_or(gpt::FRONT_SIZE) + gpt::BACKUP_SIZE;
        out.write_all(&gpt::backup(&table, size))
            .map_err(Error::write)?;
        out.seek(SeekFrom::Start(0)).map_err(Error::write)?;
        out.write_all(&gpt::front(&table, size))
            .map_err(Error::write)?;
        out.flush().map_err(Error::write)?;
        Ok(root_hash)
    }

    fn copy(&self, found: &Found, out: &mut impl Write) -> Result<(), Error> {
        let copied = io::copy(&mut self.window(found), out).map_err(Error::write)?;
        if copied == found.partition.size {
            return Ok(());
        }
        Err(Finding::new(Check::Partitions, found.place(), "is cut off").into())
    }

    /// The table with a signature partition of `size` bytes, the partitions one behind the other.
    fn table_for(&self, size: u64) -> Result<Table, Error> {
        let partitions = self.partitions();
        let (data, _) = data_and_verity(&partitions)?;
        let bare = || Finding::new(Check::Partitions, "image", "has no partition table");
        let old = self.table.as_ref().ok_or_else(bare)?;
        let kind = PartitionType::new(
            data.kind.architecture,
            data.kind.designator,
            Role::Signature,
        );
        let own = partitions.signature.map(|found| found.partition);
        let mut signature = own.unwrap_or_else(|| Partition {
            number: 3,
            type_guid: kind.guid(),
            // As from a seed; the table's UUID is all that is left of one.
            guid: guid(old.disk, kind.guid().as_bytes()),
            offset: gpt::FRONT_SIZE,
            size,
            attributes: gpt::READ_ONLY,
            label: kind.to_string(),
        });
        signature.size = size;
        let others = old.partitions.iter().filter(|partition| {
            PartitionType::from_guid(partition.type_guid)
                .is_none_or(|kind| kind.role != Role::Signature)
        });
        let mut table = Table {
            sector_size: gpt::SECTOR_SIZE,
            disk: old.disk,
            partitions: others.cloned().chain([signature]).collect(),
        };
        let mut findings = Findings::default();
        partitions::check(&table, None, &mut findings);
        findings.verdict(())?;
        table.partitions.sort_by_key(|partition| {
            PartitionType::from_guid(partition.type_guid).map(|kind| kind.role)
        });
        let mut offset = gpt::FRONT_SIZE;
        for (at, partition) in table.partitions.iter_mut().enumerate() {
            partition.number = at + 1;
            partition.offset = offset;
            offset += partition.size;
        }
        Ok(table)
    }
}

fn data_and_verity(partitions: &Partitions) -> Result<(&Found, &Found), Error> {
    let missing = |role: Role| {
        let what = format!("has no {role} partition");
        Error::from(Finding::new(Check::Partitions, "image", what))
    };
    let data = partitions
        .data
        .as_ref()
        .ok_or_else(|| missing(Role::Data))?;
    let verity = partitions.verity.as_ref();
    Ok((data, verity.ok_or_else(|| missing(Role::Verity))?))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use ukikit_signing::{Certificates, KeyPair, KeySource, PrivateKey};

    use super::*;
    use crate::{Architecture, Entry, Plan, Requirements, Signer, Tree, vector};

    fn key(name: &str) -> (PrivateKey, Certificate) {
        let file = |kind| vector::key(&format!("{name}.{kind}"));
        (
            PrivateKey::from_pem(&file("key"), None).unwrap(),
            Certificate::from_pem(&file("crt")).unwrap(),
        )
    }

    fn plan() -> Plan {
        let mut tree = Tree::new();
        tree.insert("usr/lib/demo.conf", Entry::file("hello\n"))
            .unwrap();
        Plan::new("demo".parse().unwrap(), Architecture::X86_64, tree)
    }

    fn unsigned() -> Image<Cursor<Vec<u8>>> {
        let mut out = Cursor::new(Vec::new());
        plan().build_unsigned(&mut out, &mut |_| {}).unwrap();
        Image::open(out).unwrap()
    }

    /// What a machine with the key makes of the bytes to be signed.
    fn raw(name: &str, root_hash: &RootHash) -> (Vec<u8>, Certificate) {
        let (key, certificate) = key(name);
        let hash = certificate.key().hash();
        let digest = hash.digest(&root_hash.to_be_signed());
        (key.sign_digest(hash, &digest).unwrap(), certificate)
    }

    #[test]
    fn two_steps_give_the_bytes_of_one() {
        for name in ["rsa2048", "p256", "p384"] {
            let (key, certificate) = key(name);
            let pair = KeyPair::new(key, certificate).unwrap();
            let mut one = Cursor::new(Vec::new());
            plan().build(&pair, &mut one).unwrap();

            let image = unsigned();
            let (raw, certificate) = raw(name, &image.root_hash().unwrap());
            let root_hash = image.root_hash().unwrap();
            let signature = RootHashSignature::of_raw(&raw, &root_hash, &certificate).unwrap();
            let mut two = Cursor::new(Vec::new());
            image.attach(&signature, &certificate, &mut two).unwrap();
            assert!(two.into_inner() == one.into_inner(), "{name}");
        }
    }

    #[test]
    fn without_a_signature_it_is_refused_everywhere() {
        let trusted = Certificates::new([key("rsa2048").1]);
        let verdict = unsigned().verify(&trusted, &Requirements::new());
        assert_eq!(
            verdict.unwrap_err().to_string(),
            "signature partition: JSON: EOF while parsing a value at line 1 column 0"
        );
    }

    #[test]
    fn nothing_is_written_for_a_signature_that_does_not_verify() {
        let image = unsigned();
        let (raw, certificate) = raw("p256", &RootHash::from_bytes([7; 32]));
        let root_hash = image.root_hash().unwrap();
        let error = RootHashSignature::of_raw(&raw, &root_hash, &certificate).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "signature: is not over root hash {root_hash} by the key of `CN=ddi test vector a p256`"
            )
        );
        let (key, other) = key("rsa2048");
        let foreign = Signer::sign(&KeyPair::new(key, other).unwrap(), &root_hash).unwrap();
        let mut out = Cursor::new(Vec::new());
        let error = image.attach(&foreign, &certificate, &mut out).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("signature: is by issuer `CN=ddi test vector a rsa2048`"),
            "{error}"
        );
        assert!(out.into_inner().is_empty());
    }

    #[test]
    fn an_image_of_systemd_is_signed_anew_and_packed() {
        let image = Image::open(Cursor::new(vector::image("erofs"))).unwrap();
        let root_hash = image.root_hash().unwrap();
        let (raw, certificate) = raw("p256", &root_hash);
        let signature = RootHashSignature::of_raw(&raw, &root_hash, &certificate).unwrap();
        let mut out = Cursor::new(Vec::new());
        image.attach(&signature, &certificate, &mut out).unwrap();
        let trusted = Certificates::new([certificate]);
        let signed = Image::open(out).unwrap();
        let verdict = signed.verify(&trusted, &Requirements::new());
        assert_eq!(verdict.unwrap(), root_hash);
    }

    #[test]
    fn damage_is_found_before_it_is_signed() {
        let mut out = Cursor::new(Vec::new());
        plan().build_unsigned(&mut out, &mut |_| {}).unwrap();
        let mut bytes = out.into_inner();
        bytes[20480 + 1500] ^= 1;
        let error = Image::open(Cursor::new(bytes)).unwrap().root_hash();
        assert_eq!(
            error.unwrap_err().to_string(),
            "data block 0: does not match its hash"
        );
    }
}
