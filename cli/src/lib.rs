//! What joins the three leaves: values over credentials, extension images and the boot partition.
//!
//! The `ukikit` program is a thin shell over this library and `ukikit-creds`, `ukikit-sysext` and
//! `ukikit-esp`.

mod base;
mod carrier;
mod carry;
pub mod check;
pub mod delivery;
pub mod endorsement;
pub mod explain;
pub mod first_boot;
pub mod fleet;
pub mod host;
pub mod journal;
pub mod model;
pub mod moment;
mod planned_boot;
pub mod predict;
pub mod trust;
mod wiped;

pub use base::{Base, Initrd, Inspection};
pub use carrier::Carrier;
pub use carry::{Carried, NewUki};
pub use planned_boot::PlannedBoot;
pub use wiped::{read_wiped, read_wiped_of};
