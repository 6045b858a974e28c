//! `PcrValues`: values of PCRs from a file, for a machine whose TPM is not at hand.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::catalog::Reader;
use crate::error::Error;
use crate::pcr::{PcrBank, PcrWish};

/// Values by bank and PCR, each of the bank's size.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PcrValues(BTreeMap<(PcrBank, u32), Vec<u8>>);

impl PcrValues {
    /// Reads what `systemd-analyze pcrs --json=` prints, `[{"nr": 7, "sha256": "HEX"}, …]`, values by bank and number,
    /// `{"sha256": {"7": "HEX"}}`, or these by moment in the member `points`, as `ukikit predict --json=` prints them. Other
    /// members are passed over.
    ///
    /// Of moments the one at which `reader` opens a credential counts: `after-stub` for generators and PID 1, for services
    /// `os-separator`, or `enter-initrd` where that does not come.
    ///
    /// # Errors
    ///
    /// [`Error::PcrValues`] for other JSON, a PCR above 23, one named twice, a value that is not of its bank's size, and
    /// without that moment.
    pub fn from_json(json: &[u8], reader: Reader) -> Result<Self, Error> {
        let file: File = serde_json::from_slice(json).map_err(|error| match error.is_data() {
            true => Error::PcrValues(
                "it is neither a list of registers, nor an object of banks or of points".into(),
            ),
            false => Error::PcrValues(error.to_string()),
        })?;
        let file = match file {
            File::Prediction { points } => File::Banks(at_reading(points, reader)?),
            file => file,
        };
        let mut values = Self::default();
        match file {
            File::Registers(registers) => {
                for Register { number, banks } in registers {
                    for (bank, value) in banks {
                        values.add(&bank, number, value.as_str())?;
                    }
                }
            }
            File::Prediction { .. } => {}
            File::Banks(banks) => {
                for (bank, registers) in banks {
                    for (number, value) in registers {
                        let number = number.parse().map_err(|_| {
                            Error::PcrValues(format!("{number:?} is not the number of a PCR"))
                        })?;
                        values.add(&bank, number, Some(&value))?;
                    }
                }
            }
        }
        Ok(values)
    }

    fn add(&mut self, bank: &str, pcr: u32, value: Option<&str>) -> Result<(), Error> {
        let (Ok(bank), Some(value)) = (bank.parse::<PcrBank>(), value) else {
            return Ok(());
        };
        let refuse = |reason: String| Error::PcrValues(format!("PCR {pcr}, {bank}: {reason}"));
        if pcr > 23 {
            return Err(refuse("PCRs are 0 to 23".into()));
        }
        let value = hex::decode(value).ok();
        let Some(value) = value.filter(|value| value.len() == bank.digest_size()) else {
            let digits = 2 * bank.digest_size();
            return Err(refuse(format!("a value has {digits} hexadecimal digits")));
        };
        match self.0.insert((bank, pcr), value) {
            None => Ok(()),
            Some(_) => Err(refuse("it is given twice".into())),
        }
    }
}

impl PcrWish {
    /// Gives each PCR that has no value the one in `values`; in the bank named, or else in the first of systemd's preference
    /// of which all are there.
    ///
    /// # Errors
    ///
    /// [`Error::PcrValueMissing`] for the first PCR without one.
    pub fn take_from(&mut self, values: &PcrValues) -> Result<(), Error> {
        let open: Vec<u32> = self.to_read().iter().collect();
        let has_all = |bank: &PcrBank| open.iter().all(|pcr| values.0.contains_key(&(*bank, *pcr)));
        let found = || PcrBank::ALL.into_iter().find(has_all);
        let bank = self.bank.or_else(found).unwrap_or(PcrBank::Sha256);
        for pcr in open {
            let value = values.0.get(&(bank, pcr));
            let value = value.ok_or(Error::PcrValueMissing { pcr, bank })?;
            self.values.insert(pcr, Some(value.clone()));
        }
        self.bank = Some(bank);
        Ok(())
    }
}

/// The banks at the moment when `reader` opens a credential.
fn at_reading(mut points: BTreeMap<String, Banks>, reader: Reader) -> Result<Banks, Error> {
    let moments: &[&str] = match reader.is_early() {
        true => &["after-stub"],
        false => &["os-separator", "enter-initrd"],
    };
    let found = moments.iter().find_map(|moment| points.remove(*moment));
    found.ok_or_else(|| {
        let moments = moments.join(" nor ");
        Error::PcrValues(format!("its points have no {moments}"))
    })
}

type Banks = BTreeMap<String, BTreeMap<String, String>>;

#[derive(Deserialize)]
#[serde(untagged)]
enum File {
    Registers(Vec<Register>),
    Prediction { points: BTreeMap<String, Banks> },
    Banks(Banks),
}

#[derive(Deserialize)]
struct Register {
    #[serde(rename = "nr")]
    number: u32,
    #[serde(flatten)]
    banks: BTreeMap<String, serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let (zero, one) = ("00".repeat(32), "11".repeat(48));
        let registers = format!(
            r#"[{{"nr":7,"name":"secure-boot-policy","sha256":"{zero}","sha384":"{one}"}},{{"nr":8,"name":null,"sha384":"{one}"}}]"#
        );
        let banks =
            format!(r#"{{"sha256":{{"7":"{zero}"}},"sha384":{{"7":"{one}","8":"{one}"}}}}"#);
        let values = PcrValues::from_json(registers.as_bytes(), Reader::Service).unwrap();
        assert_eq!(
            PcrValues::from_json(banks.as_bytes(), Reader::Service).unwrap(),
            values
        );
        for (text, bank, expected) in [
            ("7", PcrBank::Sha256, vec![(7, Some(vec![0; 32]))]),
            ("7:sha384", PcrBank::Sha384, vec![(7, Some(vec![0x11; 48]))]),
            (
                "7+8",
                PcrBank::Sha384,
                vec![(7, Some(vec![0x11; 48])), (8, Some(vec![0x11; 48]))],
            ),
        ] {
            let mut wish: PcrWish = text.parse().unwrap();
            wish.take_from(&values).unwrap();
            assert_eq!(wish.bank, Some(bank), "{text}");
            assert_eq!(wish.values, expected.into_iter().collect(), "{text}");
        }
        let mut wish: PcrWish = "8:sha256".parse().unwrap();
        assert_eq!(
            wish.take_from(&values).unwrap_err().to_string(),
            "PCR 8 has no value in the sha256 bank"
        );
    }

    #[test]
    fn of_a_prediction_the_moment_of_the_reader_counts() {
        let hex = |byte: u8| hex::encode([byte; 32]);
        let point = |byte| format!(r#"{{"sha256":{{"13":"{}"}}}}"#, hex(byte));
        let (stub, initrd, separator) = (point(1), point(2), point(3));
        let without = format!(
            r#"{{"schema":1,"points":{{"after-stub":{stub},"enter-initrd":{initrd}}},"events":[]}}"#
        );
        let with = format!(
            r#"{{"schema":1,"points":{{"after-stub":{stub},"enter-initrd":{initrd},"os-separator":{separator}}}}}"#
        );
        for (json, reader, byte) in [
            (&with, Reader::Generator, 1),
            (&with, Reader::Manager, 1),
            (&with, Reader::Service, 3),
            (&without, Reader::Service, 2),
        ] {
            let values = PcrValues::from_json(json.as_bytes(), reader).unwrap();
            let mut wish: PcrWish = "13".parse().unwrap();
            wish.take_from(&values).unwrap();
            assert_eq!(wish.values, [(13, Some(vec![byte; 32]))].into());
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let zero = "00".repeat(32);
        for (json, reason) in [
            (
                r#"{"sha256":{"7":"00"}}"#.to_owned(),
                "PCR 7, sha256: a value has 64 hexadecimal digits",
            ),
            (
                r#"{"sha256":{"x":"00"}}"#.to_owned(),
                "\"x\" is not the number of a PCR",
            ),
            (
                format!(r#"[{{"nr":24,"sha256":"{zero}"}}]"#),
                "PCR 24, sha256: PCRs are 0 to 23",
            ),
            (
                format!(r#"[{{"nr":7,"sha256":"{zero}"}},{{"nr":7,"sha256":"{zero}"}}]"#),
                "PCR 7, sha256: it is given twice",
            ),
            (
                "7".to_owned(),
                "it is neither a list of registers, nor an object of banks or of points",
            ),
            (
                r#"{"points":{"ready":{}}}"#.to_owned(),
                "its points have no os-separator nor enter-initrd",
            ),
        ] {
            assert_eq!(
                PcrValues::from_json(json.as_bytes(), Reader::Service)
                    .unwrap_err()
                    .to_string(),
                format!("the file of PCR values cannot be used: {reason}")
            );
        }
    }
}
