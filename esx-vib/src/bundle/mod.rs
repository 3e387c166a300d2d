//! The offline bundle: the package with the metadata by which vSphere Lifecycle Manager and `esxcli software` find it.
//!
//! ```text
//! index.xml                                 who the vendor is, and where its index is
//! vendor-index.xml                          which releases of ESXi: an entry each, all with the same metadata
//! <vendor>-<name>-<version>-metadata.zip    vmware.xml, vendor-index.xml, bulletins/<id>.xml, vibs/<name>-<n>.xml
//! vib20/<name>/<package's id>.vib           the package
//! ```
//! Images of vSphere Lifecycle Manager, the only way from ESX 9 on, take components, not bare packages. A bulletin that
//! names a component and its version is one; the version is the package's.

mod read;
mod write;

pub use read::{Bulletin, Bundle};
pub use write::write;

/// What is shown of the package where components are chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// The vendor's code: small letters.
    pub vendor_code: String,
    /// As people read it.
    pub title: String,
}

/// Releases of ESXi that are offered the package.
pub const RELEASES: [&str; 3] = ["7.*", "8.*", "9.*"];
/// What bundles call ESXi.
pub(crate) const PRODUCT: &str = "embeddedEsx";
/// The kind of content an index leads to.
pub(crate) const CONTENT: &str = "http://www.vmware.com/depotmanagement/esx";

#[cfg(test)]
mod tests;
