//! The original's access database, schema 1.1 and 1.2, read from its bytes.
//!
//! The bytes are opened in memory and for reading, so the source is untouched whatever is in it.
//! What the original's own upgrade of schema 1.1 did to the tables is done to what was read: an empty default
//! datastore is `_VM_DS`, every vmgroup has a full privilege on its default datastore, `_DEFAULT` has one on `_ALL_DS`,
//! and `_DEFAULT_URL` means nothing. Foreign keys were never enforced there, so rows that name no vmgroup are found,
//! left out, and told. The table of volumes is not read: what counts is what is present.

use std::collections::HashMap;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use uuid::Uuid;
use vdvs_domain::GroupId;
use vdvs_engine::config::{Original, OriginalGroup, OriginalPrivilege, OriginalVm};

/// First bytes of every SQLite file.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Largest database that is taken: thousands of VMs fit into one.
pub const MAX_BYTES: usize = 32 << 20;
const VM_DS: &str = "_VM_DS://";
const ALL_DS: &str = "_ALL_DS://";
const DEFAULT_URL: &str = "_DEFAULT_URL";

/// Why a file is not taken. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginalError {
    /// Not a database.
    #[error(
        "the file is no SQLite database ({0}); give the original's auth-db or vmdkops_config.db"
    )]
    NotADatabase(String),
    /// A version nobody upgraded.
    #[error(
        "DB upgrade error: Upgrade is not supported for auth-db schema version {major}.{minor} to 1.2. Refer to VDVS release versions. Open it once with the original's last release, then import it"
    )]
    Version {
        /// Major.
        major: i64,
        /// Minor.
        minor: i64,
    },
    /// It cannot be read whole.
    #[error("the database is damaged or is not the original's ({0}); import a backup of it")]
    Damaged(String),
}

/// Reads a database.
///
/// # Errors
/// [`OriginalError`].
pub fn parse(bytes: &[u8]) -> Result<Original, OriginalError> {
    if bytes.is_empty() {
        return Err(OriginalError::Version { major: 0, minor: 0 });
    }
    if !bytes.starts_with(MAGIC) {
        return Err(OriginalError::NotADatabase(
            "it begins otherwise".to_owned(),
        ));
    }
    if bytes.len() > MAX_BYTES {
        return Err(OriginalError::NotADatabase("it is too large".to_owned()));
    }
    let mut db = Connection::open_in_memory().map_err(damaged)?;
    let read_only = true;
    db.deserialize_read_exact("main", bytes, bytes.len(), read_only)
        .map_err(damaged)?;
    read(&db)
}

fn damaged(why: rusqlite::Error) -> OriginalError {
    OriginalError::Damaged(why.to_string())
}

fn read(db: &Connection) -> Result<Original, OriginalError> {
    let check: String = db
        .query_row("PRAGMA quick_check(1)", [], |r| r.get(0))
        .map_err(damaged)?;
    if check != "ok" {
        return Err(OriginalError::Damaged(check));
    }
    let schema: (i64, i64) = db
        .query_row(
            "SELECT major_ver, minor_ver FROM versions WHERE id = 0",
            [],
            |r| Ok((r.get(0)?, r.get(1)?)),
        )
        .map_err(damaged)?;
    if !matches!(schema, (1, 1 | 2)) {
        let (major, minor) = schema;
        return Err(OriginalError::Version { major, minor });
    }
    let mut original = Original {
        schema,
        ..Original::default()
    };
    let mut at = groups(db, &mut original)?;
    vms(db, &mut original, &mut at)?;
    privileges(db, &mut original, &mut at)?;
    if schema == (1, 1) {
        upgrade(&mut original);
    }
    Ok(original)
}

/// The vmgroups by the original's id, in the order of [`Original::groups`].
type At = HashMap<String, usize>;

fn groups(db: &Connection, original: &mut Original) -> Result<At, OriginalError> {
    let mut at = At::new();
    let mut select = db
        .prepare("SELECT id, name, description, default_datastore_url FROM tenants ORDER BY rowid")
        .map_err(damaged)?;
    let mut rows = select.query([]).map_err(damaged)?;
    while let Some(row) = rows.next().map_err(damaged)? {
        let (id, name) = (text(row, 0)?, text(row, 1)?);
        let Ok(uuid) = Uuid::try_parse(&id) else {
            original.warnings.push(format!(
                "vmgroup {name} has the id {id:?}, which is no UUID; it is left out, and its volumes stay where they are"
            ));
            continue;
        };
        at.insert(id, original.groups.len());
        original.groups.push(OriginalGroup {
            id: uuid,
            name,
            description: text(row, 2)?,
            default_datastore: text(row, 3)?,
            vms: Vec::new(),
            privileges: Vec::new(),
        });
    }
    Ok(at)
}

fn vms(db: &Connection, original: &mut Original, at: &mut At) -> Result<(), OriginalError> {
    // Schema 1.1 kept no names.
    let sql = match original.schema {
        (1, 1) => "SELECT vm_id, tenant_id, '' FROM vms ORDER BY rowid",
        _ => "SELECT vm_id, tenant_id, vm_name FROM vms ORDER BY rowid",
    };
    let mut select = db.prepare(sql).map_err(damaged)?;
    let mut rows = select.query([]).map_err(damaged)?;
    while let Some(row) = rows.next().map_err(damaged)? {
        let (id, tenant, name) = (text(row, 0)?, text(row, 1)?, text(row, 2)?);
        let shown = match name.is_empty() {
            true => id.clone(),
            false => name.clone(),
        };
        let Ok(bios) = Uuid::try_parse(&id) else {
            original.warnings.push(format!(
                "VM {shown} has the id {id:?}, which is no UUID; it is left out"
            ));
            continue;
        };
        match at.get(&tenant).and_then(|at| original.groups.get_mut(*at)) {
            Some(group) => group.vms.push(OriginalVm { bios, name }),
            None => original.warnings.push(format!(
                "VM {shown} belongs to vmgroup {tenant}, which is not there; it is left out"
            )),
        }
    }
    Ok(())
}

fn privileges(db: &Connection, original: &mut Original, at: &mut At) -> Result<(), OriginalError> {
    let mut select = db
        .prepare(
            "SELECT tenant_id, datastore_url, allow_create, max_volume_size, usage_quota
             FROM privileges ORDER BY rowid",
        )
        .map_err(damaged)?;
    let mut rows = select.query([]).map_err(damaged)?;
    while let Some(row) = rows.next().map_err(damaged)? {
        let (tenant, datastore) = (text(row, 0)?, text(row, 1)?);
        let privilege = OriginalPrivilege {
            // What is not 1 does not allow.
            allow_create: number(row, 2)? == 1,
            max_volume_mb: limit(row, 3)?,
            total_mb: limit(row, 4)?,
            datastore,
        };
        match at.get(&tenant).and_then(|at| original.groups.get_mut(*at)) {
            Some(group) => group.privileges.push(privilege),
            None => original.warnings.push(format!(
                "a privilege on {} belongs to vmgroup {tenant}, which is not there; it is left out",
                privilege.datastore
            )),
        }
    }
    Ok(())
}

/// What the original's upgrade from 1.1 to 1.2 did.
fn upgrade(original: &mut Original) {
    let full = |datastore: &str| OriginalPrivilege {
        datastore: datastore.to_owned(),
        allow_create: true,
        max_volume_mb: 0,
        total_mb: 0,
    };
    for group in &mut original.groups {
        if group.default_datastore.is_empty() {
            VM_DS.clone_into(&mut group.default_datastore);
        }
        let mut needed = vec![group.default_datastore.clone()];
        if group.id == GroupId::DEFAULT.uuid() {
            group.privileges.retain(|p| p.datastore != DEFAULT_URL);
            needed.push(ALL_DS.to_owned());
        }
        for url in needed {
            if !group.privileges.iter().any(|p| p.datastore == url) {
                group.privileges.push(full(&url));
            }
        }
    }
}

/// A text; empty where there is none.
fn text(row: &Row<'_>, column: usize) -> Result<String, OriginalError> {
    match row.get_ref(column).map_err(damaged)? {
        ValueRef::Null => Ok(String::new()),
        ValueRef::Text(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        other => Err(OriginalError::Damaged(format!(
            "a text is of type {}",
            other.data_type()
        ))),
    }
}

fn number(row: &Row<'_>, column: usize) -> Result<i64, OriginalError> {
    match row.get_ref(column).map_err(damaged)? {
        ValueRef::Null => Ok(0),
        ValueRef::Integer(number) => Ok(number),
        other => Err(OriginalError::Damaged(format!(
            "a number is of type {}",
            other.data_type()
        ))),
    }
}

/// A limit in MB. One that makes no sense is not read as unlimited.
fn limit(row: &Row<'_>, column: usize) -> Result<u64, OriginalError> {
    let number = number(row, column)?;
    u64::try_from(number).map_err(|_| OriginalError::Damaged(format!("a limit of {number} MB")))
}
