//! Credentials for many hosts, sealed in one place: a fleet file in, one tree for the ESP of each host out.
//!
//! ```text
//! FLEET.toml ─ Fleet ─┐
//! values, identities ─┴─ host by host ─ sealed ─ DIR/HOST/loader/credentials/NAME.cred
//!                                              └ DIR/.ukikit-fleet/hosts/HOST.json     what stands there
//! ```
//!
//! Nothing is shared between two hosts but the key of the fingerprints, so a fleet is split by host names alone and the
//! results merge by copying. Memory holds the fleet file and the hosts at work, however many there are.

mod encrypt;
mod entry;
mod file;
mod forget;
mod host;
mod policy;
mod record;
mod status;
mod store;
mod summary;
mod value;

pub use encrypt::{Run, Shard};
pub use file::Fleet;
pub use forget::{Forgotten, forget};
pub use policy::Bind;
pub use record::{FingerprintKey, HostRecord, SealedCredential};
pub use status::{Carrier, Carriers, Standing, Status, carriers, status};
pub use store::{Sealer, Store};
pub use summary::Summary;
pub use value::Values;

pub(crate) use encrypt::sealed;
pub(crate) use entry::{literal_pcrs, read_public_key};
pub(crate) use file::{Host, Settings};
pub(crate) use host::{Job, job, word};
pub(crate) use record::SCHEMA as RECORD_SCHEMA;
