//! What a credential is encrypted with, and the one table between that and the type ids on disk.

use crate::host::HostSecret;
use crate::seal::TpmBinding;

/// Key material to encrypt under.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Key<'a> {
    /// A key everybody knows: hides nothing, proves nothing. For machines without a TPM.
    Null,
    /// The secret file of the machine. The initrd has none.
    Host(&'a HostSecret),
    /// A key sealed to a TPM's storage key.
    Tpm(&'a TpmBinding),
    /// Both: opens only on this TPM with this file.
    HostAndTpm(&'a HostSecret, &'a TpmBinding),
}

impl<'a> Key<'a> {
    pub(crate) fn host(&self) -> Option<&'a HostSecret> {
        match *self {
            Self::Host(host) | Self::HostAndTpm(host, _) => Some(host),
            Self::Null | Self::Tpm(_) => None,
        }
    }

    pub(crate) fn binding(&self) -> Option<&'a TpmBinding> {
        match *self {
            Self::Tpm(binding) | Self::HostAndTpm(_, binding) => Some(binding),
            Self::Null | Self::Host(_) => None,
        }
    }
}

/// The type of a stored credential: which headers it has and which keys open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Kind {
    /// Needs the host secret.
    pub host: bool,
    /// Has a key sealed to a TPM.
    pub tpm: bool,
    /// The TPM policy accepts PCR values signed by a public key (252 and later).
    pub signed: bool,
    /// Names the storage root key it is sealed to (262 and later).
    pub pinned: bool,
    /// Opens for one user alone (256 and later).
    pub scoped: bool,
}

impl Kind {
    /// The type whose id these 16 bytes are; `None` for the five that mean "choose for me", which are never stored, and for unknown ones.
    pub fn from_id(id: &[u8; 16]) -> Option<Self> {
        let number = u128::from_be_bytes(*id);
        STORED
            .iter()
            .find(|(_, stored)| *stored == number)
            .map(|(kind, _)| kind.parse())
    }

    /// The id that stands first in the file; `None` where systemd has no such type.
    pub fn id(&self) -> Option<[u8; 16]> {
        STORED
            .iter()
            .find(|(kind, _)| kind.parse() == *self)
            .map(|(_, id)| id.to_be_bytes())
    }

    /// The keys, as `--with-key=` spells them.
    pub fn with_key(&self) -> &'static str {
        match (self.host, self.tpm, self.signed) {
            (true, true, true) => "host+tpm2-with-public-key",
            (true, true, false) => "host+tpm2",
            (true, false, _) => "host",
            (false, true, true) => "tpm2-with-public-key",
            (false, true, false) => "tpm2",
            (false, false, _) => "null",
        }
    }

    /// First systemd that reads this type when its key was sealed by that systemd's own TPM.
    pub fn since(&self) -> u16 {
        match (self.pinned, self.scoped, self.signed, self.host || self.tpm) {
            (true, ..) => 262,
            (false, true, ..) => 256,
            (false, false, true, _) => 252,
            (false, false, false, false) => 251,
            (false, false, false, true) => 250,
        }
    }
}

/// A row of the table: letters for host, tpm, signed, pinned (`s` for its storage root key) and user.
struct Letters(&'static str);

impl Letters {
    fn parse(&self) -> Kind {
        let has = |letter| self.0.contains(letter);
        Kind {
            host: has('h'),
            tpm: has('t'),
            signed: has('k'),
            pinned: has('s'),
            scoped: has('u'),
        }
    }
}

/// Every type a file may have, by its id in the order of its bytes (systemd: `creds-util.h`).
const STORED: [(Letters, u128); 15] = [
    (Letters(""), 0x058469da_f6f5_4324_8005_49da0f8ea2fb),
    (Letters("h"), 0x5a1c6a86_df9d_4096_b1d5_a65e0862f19a),
    (Letters("hu"), 0x55b9ed1d_3859_4d43_a831_9d2ebb332ac6),
    (Letters("t"), 0x0c7cc07b_1176_4591_9c4b_0bea08bc20fe),
    (Letters("tk"), 0xfaf7eb93_41e3_412c_a1a4_36f95a29362f),
    (Letters("ht"), 0x93a89409_4874_4490_90ca_f2fc93cab553),
    (Letters("htu"), 0xef4ac136_79a9_480e_a7db_68897f9f165d),
    (Letters("htk"), 0xaf4950a8_4913_4eb1_a738_46304ff30c05),
    (Letters("htku"), 0xadbc4ca3_efb6_4201_ba88_1b6f2e4095ea),
    (Letters("ts"), 0xd4062dfb_71ad_4c86_804b_40ef1180f1fc),
    (Letters("tks"), 0x5e2d5c76_0372_4eaf_843c_6fb5f64098f5),
    (Letters("hts"), 0x14142588_18a2_40cd_900b_ce862db5c7b9),
    (Letters("htsu"), 0x2a1f877a_4275_431a_b3f9_ed1f5d8f6601),
    (Letters("htks"), 0xafbfeaac_eb6a_4a37_9541_9d135c47f37b),
    (Letters("htksu"), 0x16e49294_9f94_4002_8675_8f94b7c52bc7),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stored_type_goes_out_and_back() {
        for (letters, id) in &STORED {
            let kind = letters.parse();
            assert_eq!(kind.id(), Some(id.to_be_bytes()));
            assert_eq!(Kind::from_id(&id.to_be_bytes()), Some(kind));
        }
    }

    #[test]
    fn ids_that_mean_choose_for_me_are_not_types() {
        for id in [
            0xa219cb07_85b2_4c04_b16d_18cab9d2ee01_u128,
            0x45f3a67e_0c12_4256_a4ee_75eb44c65a6f,
            0xdaf67a60_d3eb_47b3_a9be_2fd5fec21522,
            0x02dc8ede_3a02_43ab_a9ec_549c05e6a071,
            0x23889685_6f74_488a_9c78_6f6ab0e73b6a,
            0,
        ] {
            assert_eq!(Kind::from_id(&id.to_be_bytes()), None, "{id:032x}");
        }
    }

    #[test]
    fn there_is_no_scope_without_the_host_secret() {
        let kind = Kind {
            tpm: true,
            scoped: true,
            ..Kind::default()
        };
        assert_eq!(kind.id(), None);
    }
}
