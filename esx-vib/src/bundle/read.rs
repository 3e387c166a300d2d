//! Reading.

use std::collections::BTreeMap;

use roxmltree::Node;

use crate::descriptor::Descriptor;
use crate::digest::sha256;
use crate::error::ReadError;
use crate::vib::Vib;
use crate::xml::{child, document, elements, text};
use crate::zip;

const WHAT: &str = "the bundle";
/// One each release; together the same metadata.
const MOST_METADATA: usize = 100;

/// A bulletin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bulletin {
    /// Its name.
    pub id: String,
    /// The component it is, and its version; none: it is not one.
    pub component: Option<(String, String)>,
    /// Releases of ESXi.
    pub platforms: Vec<String>,
    /// Identities of its packages.
    pub packages: Vec<String>,
    /// Names of its elements, in their order.
    pub elements: Vec<String>,
}

/// A bundle as it was read: every size and checksum in it was found right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Vendor's name and code.
    pub vendor: (String, String),
    /// Releases of ESXi that are offered it.
    pub releases: Vec<String>,
    /// Bulletins, from `bulletins/` of the metadata.
    pub bulletins: Vec<Bulletin>,
    /// Copies of descriptors, by the place of their package.
    pub descriptors: BTreeMap<String, Descriptor>,
    /// Packages, by their place.
    pub packages: BTreeMap<String, Vib>,
    /// Files of the metadata.
    pub metadata: BTreeMap<String, Vec<u8>>,
}

impl Bundle {
    /// Reads a bundle, follows it from its index to its packages, and reads those.
    ///
    /// # Errors
    /// [`ReadError`]: a part that the way leads to and that is not there, or differs from what is said of it.
    pub fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        let files = zip::read(bytes)?;
        let (vendor, index) = vendor(part(&files, "index.xml")?)?;
        let (releases, metadata) = releases(part(&files, &index)?)?;
        let metadata = zip::read(part(&files, &metadata)?)?;
        let mut bundle = Self {
            vendor,
            releases,
            bulletins: Vec::new(),
            descriptors: BTreeMap::new(),
            packages: BTreeMap::new(),
            metadata: BTreeMap::new(),
        };
        part(&metadata, "vmware.xml")?;
        for (name, bytes) in &metadata {
            if name.starts_with("bulletins/") {
                bundle.bulletins.push(bulletin(bytes)?);
            } else if name.starts_with("vibs/") {
                let (place, copy, package) = package(bytes, &files)?;
                bundle.descriptors.insert(place.clone(), copy);
                bundle.packages.insert(place, package);
            }
        }
        for id in bundle.bulletins.iter().flat_map(|b| &b.packages) {
            if !bundle.packages.values().any(|p| p.descriptor.id() == *id) {
                return Err(missing(format!("package {id}, which a bulletin names")));
            }
        }
        bundle.metadata = metadata;
        Ok(bundle)
    }
}

fn vendor(bytes: &[u8]) -> Result<((String, String), String), ReadError> {
    let document = document("index.xml", bytes)?;
    let vendor = child(document.root_element(), "vendor");
    let vendor = vendor.ok_or_else(|| missing("vendor in index.xml".to_owned()))?;
    let said = |name: &str| text(vendor, name).to_owned();
    Ok(((said("name"), said("code")), said("indexfile")))
}

fn releases(bytes: &[u8]) -> Result<(Vec<String>, String), ReadError> {
    let document = document("vendor-index.xml", bytes)?;
    let entries: Vec<Node<'_, '_>> = elements(document.root_element()).collect();
    if entries.len() > MOST_METADATA {
        return Err(ReadError::TooMany {
            what: "vendor-index.xml",
            most: MOST_METADATA,
        });
    }
    let mut addresses: Vec<&str> = entries.iter().map(|n| text(*n, "url")).collect();
    addresses.dedup();
    let [address] = addresses[..] else {
        return Err(missing(
            "one address of metadata for all releases".to_owned(),
        ));
    };
    let releases = entries.iter().map(|n| text(*n, "version").to_owned());
    Ok((releases.collect(), address.to_owned()))
}

fn bulletin(bytes: &[u8]) -> Result<Bulletin, ReadError> {
    let document = document("a bulletin", bytes)?;
    let root = document.root_element();
    let attribute = |element: &str, name: &str| {
        child(root, element).and_then(|n| n.attribute(name).map(str::to_owned))
    };
    let inside = |name: &str| child(root, name).into_iter().flat_map(elements);
    Ok(Bulletin {
        id: text(root, "id").to_owned(),
        component: attribute("componentNameSpec", "name")
            .zip(attribute("componentVersionSpec", "version")),
        platforms: inside("platforms")
            .filter_map(|n| n.attribute("version").map(str::to_owned))
            .collect(),
        packages: inside("vibList")
            .map(|n| n.text().unwrap_or_default().trim().to_owned())
            .collect(),
        elements: elements(root)
            .map(|n| n.tag_name().name().to_owned())
            .collect(),
    })
}

/// The package that a copy of a descriptor leads to.
fn package(
    bytes: &[u8],
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<(String, Descriptor, Vib), ReadError> {
    let copy = Descriptor::parse(bytes)?;
    let document = document("a copy of a descriptor", bytes)?;
    let root = document.root_element();
    let place = text(root, "relative-path").to_owned();
    let package = part(files, &place)?;
    let size = text(root, "packed-size");
    if size != package.len().to_string() {
        return Err(differs(&place, "size", size, package.len().to_string()));
    }
    let said = text(root, "checksum");
    let found = sha256(package);
    if !said.eq_ignore_ascii_case(&found) {
        return Err(differs(&place, "sha-256", said, found));
    }
    let read = Vib::read(package)?;
    if read.descriptor != copy {
        let (said, found) = ("another one", "the package's".to_owned());
        return Err(differs(&place, "descriptor", said, found));
    }
    Ok((place, copy, read))
}

fn part<'a>(files: &'a BTreeMap<String, Vec<u8>>, name: &str) -> Result<&'a [u8], ReadError> {
    let found = files.get(name).map(Vec::as_slice);
    found.ok_or_else(|| missing(format!("file '{name}'")))
}

fn missing(part: String) -> ReadError {
    ReadError::Missing { what: WHAT, part }
}

fn differs(what: &str, kind: &str, said: &str, found: String) -> ReadError {
    ReadError::Differs {
        what: what.to_owned(),
        kind: kind.to_owned(),
        found,
        said: said.to_owned(),
    }
}
