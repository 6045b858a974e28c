//! Images of every pair of file system, codec, size of clusters and kind of tree: each pair stands in at least one
//! image, which passes all checkers and is compared with its tree through the kernel's mount and an extraction.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use tempfile::TempDir;

use crate::snapshot::{assert_same, snapshot};
use crate::support::succeed;
use crate::support::systemd::Systemd;
use crate::{build_command, check, extracted, mounted, trees, vector_signer};

const FORMATS: [&str; 2] = ["erofs", "squashfs"];
const CODECS: [&str; 3] = ["none", "lz4", "zstd"];
const CLUSTERS: [Option<u32>; 3] = [Some(4096), None, Some(1 << 20)];
/// A kind of tree, and what makes it beside the least an extension has.
type Feature = (&'static str, fn(&Path));
const FEATURES: [Feature; 8] = [
    ("sizes", trees::files_of_every_size),
    ("text", trees::files_to_compress),
    ("holes", trees::files_with_holes),
    ("links", trees::links),
    ("names", trees::names),
    ("special files", trees::special_files),
    ("attributes", trees::attributes),
    ("nothing", |_| ()),
];

/// Which value of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Combination([usize; 4]);

#[test]
fn every_pair_passes_every_checker_and_reads_back() {
    build_and_check(&pairs());
}

/// Only `tests/run --full` takes the time.
#[test]
fn full_every_combination_passes_every_checker_and_reads_back() {
    build_and_check(&all());
}

#[test]
fn every_kind_of_key_signs_every_format() {
    let Some(systemd) = Systemd::find(262) else {
        return;
    };
    let place = TempDir::new().unwrap();
    let tree = place.path().join("tree");
    trees::small(&tree);
    for make in [trees::links, trees::special_files, trees::attributes] {
        make(&tree);
    }
    let expected = snapshot(&tree);
    for key in ["rsa2048", "rsa3072", "rsa4096", "p256", "p384"] {
        let signer = vector_signer(key);
        for format in FORMATS {
            let room = systemd.room();
            let image = room.path("feature.sysext.raw");
            let mut build = build_command(crate::ukikit(), &tree, &signer, "lz4", &image);
            build.arg(format!("--format={format}"));
            let case = format!("{format}, {key}");
            succeed(&case, build.output().unwrap());
            check(&room, &signer, format);
            assert_same(&snapshot(&mounted(&room, format)), &expected, &case);
        }
    }
}

fn build_and_check(combinations: &[Combination]) {
    let Some(systemd) = Systemd::find(262) else {
        return;
    };
    let place = TempDir::new().unwrap();
    let signer = vector_signer("rsa2048");
    let expected = FEATURES.map(|(name, make)| {
        let tree = place.path().join(name);
        trees::small(&tree);
        make(&tree);
        let expected = snapshot(&tree);
        (tree, expected)
    });
    for combination in combinations {
        let (tree, expected) = &expected[combination.0[3]];
        let room = systemd.room();
        let image = room.path("feature.sysext.raw");
        let mut build = build_command(crate::ukikit(), tree, &signer, combination.codec(), &image);
        build.arg(format!("--format={}", combination.format()));
        if let Some(size) = combination.cluster() {
            build.arg(format!("--cluster-size={size}"));
        }
        succeed(&combination.to_string(), build.output().unwrap());
        check(&room, &signer, combination.format());
        assert_same(
            &snapshot(&mounted(&room, combination.format())),
            expected,
            combination,
        );
        // fsck.erofs 1.9.4 gives up on an attribute without a value, in images of its own mkfs too.
        let empty = "usr/bin/empty-attribute";
        let mut expected = expected.clone();
        let mut extracted = snapshot(&extracted(&room, combination.format()));
        if combination.format() == "erofs" {
            expected.remove(empty);
            extracted.remove(empty);
        }
        assert_same(&extracted, &expected, combination);
    }
}

impl Combination {
    fn format(&self) -> &'static str {
        FORMATS[self.0[0]]
    }

    fn codec(&self) -> &'static str {
        CODECS[self.0[1]]
    }

    fn cluster(&self) -> Option<u32> {
        CLUSTERS[self.0[2]]
    }

    /// Every two of its values, with which they are of.
    fn pairs(&self) -> BTreeSet<[(usize, usize); 2]> {
        let values: Vec<(usize, usize)> = self.0.into_iter().enumerate().collect();
        let later = |&one: &(usize, usize)| values[one.0 + 1..].iter().map(move |&two| [one, two]);
        values.iter().flat_map(later).collect()
    }
}

impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let feature = FEATURES[self.0[3]].0;
        let (format, codec, cluster) = (self.format(), self.codec(), self.cluster());
        write!(
            f,
            "{format}, {codec}, clusters of {cluster:?}, tree of {feature}"
        )
    }
}

fn all() -> Vec<Combination> {
    let mut all = Vec::new();
    for format in 0..FORMATS.len() {
        for codec in 0..CODECS.len() {
            for cluster in 0..CLUSTERS.len() {
                all.extend(
                    (0..FEATURES.len())
                        .map(|feature| Combination([format, codec, cluster, feature])),
                );
            }
        }
    }
    all
}

/// Few of them that have every pair: always the one that brings the most new ones.
fn pairs() -> Vec<Combination> {
    let all = all();
    let mut missing: BTreeSet<_> = all.iter().flat_map(Combination::pairs).collect();
    let mut chosen = Vec::new();
    while !missing.is_empty() {
        let brings =
            |combination: &&Combination| combination.pairs().intersection(&missing).count();
        let best = *all.iter().max_by_key(brings).unwrap();
        missing = &missing - &best.pairs();
        chosen.push(best);
    }
    chosen
}
