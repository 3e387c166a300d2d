//! The engine's ports, under the name by which the source of `swap` knows them.

pub(crate) use vdvs_engine::ports::{Datastores, DsPath, StorageError};
