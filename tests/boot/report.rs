//! What a guest told: lines `fact NAME BASE64` on its second serial port, then `end STAGE`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};

use crate::support::text;

/// One boot, seen from inside.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// `initrd`, or `emergency` when the boot failed; `None` when the guest did not get so far.
    pub(crate) stage: Option<String>,
    /// By name, as in `guest/usr/lib/lab/report`: `credential/lab.secret`, `proc/mountinfo`, `failed-units`…
    pub(crate) facts: BTreeMap<String, Vec<u8>>,
    /// What the firmware, the kernel and systemd printed.
    pub(crate) console: String,
}

impl Report {
    /// Reads the stream; the firmware writes to the same port before, so anything unknown is passed over.
    pub(crate) fn parse(stream: &[u8], console: String) -> Self {
        let mut report = Self {
            console,
            ..Self::default()
        };
        for line in text(stream).lines() {
            let words: Vec<&str> = line.trim_end().split(' ').collect();
            match words[..] {
                ["fact", name, content] => {
                    report.add(name, &STANDARD.decode(content).unwrap_or_default())
                }
                ["end", stage] => report.stage = Some(stage.to_owned()),
                _ => {}
            }
        }
        report
    }

    /// A fact as text; empty if the guest did not tell it.
    pub(crate) fn fact(&self, name: &str) -> String {
        self.facts
            .get(name)
            .map(|content| text(content))
            .unwrap_or_default()
    }

    /// Names of the merged extensions of one hierarchy, such as `/usr`.
    pub(crate) fn merged(&self, hierarchy: &str) -> Vec<String> {
        let status: Value = serde_json::from_str(&self.fact("sysext")).unwrap_or_default();
        let of = status
            .as_array()
            .into_iter()
            .flatten()
            .find(|row| row["hierarchy"] == hierarchy);
        let names = of
            .and_then(|row| row["extensions"].as_array())
            .into_iter()
            .flatten();
        names
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect()
    }

    /// Fails unless the guest reported from the initrd; then with its console and journal.
    pub(crate) fn assert_initrd(&self) {
        assert_eq!(
            self.stage.as_deref(),
            Some("initrd"),
            "console:\n{}\njournal:\n{}",
            self.console,
            self.fact("journal")
        );
    }

    /// Writes `console.log` and `report.json` into a directory, for a look at a boot that went wrong.
    pub(crate) fn keep(&self, directory: &Path) {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("console.log"), &self.console).unwrap();
        fs::write(
            directory.join("report.json"),
            format!("{:#}\n", self.json()),
        )
        .unwrap();
    }

    /// The report as JSON; a fact that is not text becomes `{"base64": …}`.
    pub(crate) fn json(&self) -> Value {
        let facts = self.facts.iter().map(|(name, content)| {
            let value = match str::from_utf8(content) {
                Ok(text) => json!(text),
                Err(_) => json!({ "base64": STANDARD.encode(content) }),
            };
            (name.clone(), value)
        });
        json!({ "stage": self.stage, "facts": facts.collect::<serde_json::Map<_, _>>() })
    }

    fn add(&mut self, name: &str, content: &[u8]) {
        match name.strip_suffix(".gz") {
            Some(name) => self.facts.insert(name.to_owned(), unzip(content)),
            None => self.facts.insert(name.to_owned(), content.to_vec()),
        };
    }
}

/// Unpacks what is there: a cut stream still shows its beginning.
fn unzip(packed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let _ = MultiGzDecoder::new(packed).read_to_end(&mut plain);
    plain
}
