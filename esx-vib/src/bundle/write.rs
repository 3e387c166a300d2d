//! Writing.

use super::{CONTENT, Component, PRODUCT, RELEASES};
use crate::descriptor::Descriptor;
use crate::digest::sha256;
use crate::error::{BuildError, ReadError};
use crate::vib::Vib;
use crate::xml::escape;
use crate::zip;

/// Makes a bundle of a package. The same package gives the same bundle.
///
/// # Errors
/// [`BuildError`]; a package that cannot be read is one.
pub fn write(component: &Component, package: &[u8]) -> Result<Vec<u8>, BuildError> {
    let code = &component.vendor_code;
    if code.is_empty() || !code.bytes().all(|b| b.is_ascii_lowercase()) {
        return Err(BuildError::Value {
            what: "vendor's code",
            value: code.clone(),
            why: "it takes small letters",
        });
    }
    let vib = Vib::read(package).map_err(|e: ReadError| BuildError::Container(e.to_string()))?;
    let about = About {
        component,
        descriptor: &vib.descriptor,
        place: format!("vib20/{}/{}.vib", vib.descriptor.name, vib.descriptor.id()),
        size: package.len() as u64,
        sha256: sha256(package),
    };
    let metadata = format!(
        "{}-{}-{}-metadata.zip",
        about.descriptor.vendor, about.descriptor.name, about.descriptor.version
    );
    let index = about.vendor_index(&metadata);
    let (name, id) = (&about.descriptor.name, about.id());
    let inner = vec![
        (format!("bulletins/{id}.xml"), about.bulletin().into_bytes()),
        ("vendor-index.xml".to_owned(), index.clone().into_bytes()),
        (
            format!("vibs/{name}-{}.xml", about.number()),
            about.copy().into_bytes(),
        ),
        ("vmware.xml".to_owned(), about.response().into_bytes()),
    ];
    zip::write(&[
        ("index.xml".to_owned(), about.index().into_bytes()),
        (metadata, zip::write(&inner)?),
        ("vendor-index.xml".to_owned(), index.into_bytes()),
        (about.place.clone(), package.to_vec()),
    ])
}

struct About<'a> {
    component: &'a Component,
    descriptor: &'a Descriptor,
    place: String,
    size: u64,
    sha256: String,
}

impl About<'_> {
    fn id(&self) -> String {
        format!("{}-{}", self.descriptor.name, self.descriptor.version)
    }

    /// Tells copies of descriptors apart; ten digits that follow from the package.
    fn number(&self) -> u32 {
        let digits = self.sha256.get(..8).unwrap_or_default();
        u32::from_str_radix(digits, 16).unwrap_or_default()
    }

    fn index(&self) -> String {
        let (name, code) = (&self.descriptor.vendor, &self.component.vendor_code);
        format!(
            "<vendorList>\n  <vendor>\n    <name>{}</name>\n    <code>{}</code>\n    \
             <indexfile>vendor-index.xml</indexfile>\n    <patchUrl></patchUrl>\n    \
             <relativePath></relativePath>\n    <content>\n      <name>VMware ESX</name>\n      \
             <type>{CONTENT}</type>\n    </content>\n  </vendor>\n</vendorList>\n",
            escape(name),
            escape(code)
        )
    }

    fn vendor_index(&self, metadata: &str) -> String {
        let entries = RELEASES.map(|release| {
            format!(
                "  <metadata>\n    <productId>{PRODUCT}</productId>\n    <version>{release}</version>\n    \
                 <locale></locale>\n    <url>{}</url>\n    <channelName>default</channelName>\n  </metadata>\n",
                escape(metadata)
            )
        });
        format!("<metaList>\n{}</metaList>\n", entries.concat())
    }

    fn bulletin(&self) -> String {
        let id = escape_owned(&self.descriptor.id());
        self.bulletin_with("", &format!("    <vibID>{id}</vibID>\n"))
    }

    /// The bulletin, around the list of its packages.
    fn bulletin_with(&self, indent: &str, packages: &str) -> String {
        let of = self.descriptor;
        let title = escape(&self.component.title);
        let (name, version) = (escape(&of.name), escape(&of.version));
        let platforms = RELEASES.map(|release| {
            format!(
                "    <softwarePlatform locale=\"\" version=\"{release}\" productLineID=\"{PRODUCT}\"/>\n"
            )
        });
        let text = format!(
            "<bulletin>\n  <id>{}</id>\n  <vendor>{}</vendor>\n  <summary>{}</summary>\n  \
             <severity>general</severity>\n  <category>enhancement</category>\n  <urgency>moderate</urgency>\n  \
             <releaseType>extension</releaseType>\n  <description>{}</description>\n  <kbUrl></kbUrl>\n  \
             <contact></contact>\n  <componentNameSpec name=\"{name}\" uiString=\"{title}\"/>\n  \
             <componentVersionSpec version=\"{version}\" uiString=\"{version}\"/>\n  \
             <releaseDate>{}</releaseDate>\n  <platforms>\n{}  </platforms>\n  <vibList>\n{packages}  </vibList>\n\
             </bulletin>\n",
            escape_owned(&self.id()),
            escape(&of.vendor),
            escape(&of.summary),
            escape(&of.description),
            escape(&of.release_date),
            platforms.concat(),
        );
        text.lines()
            .map(|line| format!("{indent}{line}\n"))
            .collect()
    }

    /// `vmware.xml`: the bulletins once more, with their packages.
    fn response(&self) -> String {
        let of = self.descriptor;
        // Without its zone, which this one file's readers do not expect.
        let moment = of.release_date.split('+').next().unwrap_or_default();
        let package = format!(
            "    <vib>\n      <vibVersion>1.4.5</vibVersion>\n      <vibID>{}</vibID>\n      <name>{}</name>\n      \
             <version>{}</version>\n      <vendor>{}</vendor>\n      <vibType>{}</vibType>\n      \
             <summary>{}</summary>\n      <systemReqs>\n        <maintenanceMode>{}</maintenanceMode>\n        \
             <swPlatform locale=\"\" version=\"\" productLineID=\"{PRODUCT}\"/>\n      </systemReqs>\n      \
             <relationships>\n        <depends/>\n        <conflicts/>\n        <replaces/>\n        <provides/>\n        \
             <compatibleWith/>\n      </relationships>\n      <postInstall>\n        \
             <rebootRequired>{}</rebootRequired>\n        <hostdRestart>false</hostdRestart>\n      </postInstall>\n      \
             <vibFile>\n        <sourceUrl></sourceUrl>\n        <relativePath>{}</relativePath>\n        \
             <packedSize>{}</packedSize>\n        <checksum>\n          <checksumType>sha-256</checksumType>\n          \
             <checksum>{}</checksum>\n        </checksum>\n      </vibFile>\n    </vib>\n",
            escape_owned(&of.id()),
            escape(&of.name),
            escape(&of.version),
            escape(&of.vendor),
            escape(&of.kind),
            escape(&of.summary),
            of.maintenance_mode,
            !of.live_install,
            escape(&self.place),
            self.size,
            self.sha256,
        );
        format!(
            "<metadataResponse>\n  <version>3.0</version>\n  <timestamp>{}.000000</timestamp>\n{}</metadataResponse>\n",
            escape(moment),
            self.bulletin_with("  ", &package)
        )
    }

    /// The package's descriptor, with its place.
    fn copy(&self) -> String {
        self.descriptor
            .render_for_depot(&self.place, self.size, &self.sha256)
    }
}

fn escape_owned(text: &str) -> String {
    escape(text).into_owned()
}
