//! The one volume an administrator means. Not limited by vmgroups, and volumes being made or removed count too.

use vdvs_domain::address::{AdminAddress, GroupPart, NO_GROUP};
use vdvs_domain::{DatastoreName, Error, GroupId};

use crate::governance::Governed;
use crate::index::Indexed;
use crate::inner::Inner;
use crate::ports::DatastoreInfo;
use crate::records::Stored;

/// More candidates are counted, not listed.
const MAX_LISTED: usize = 12;
const EVERYWHERE: &str = "all datastores";

impl Inner {
    /// Whether a volume's vmgroup exists no more, by the rules of its datastore; while nobody knows them it may exist.
    pub(crate) async fn is_orphan(&self, ds: &DatastoreName, group: GroupId) -> bool {
        match self.governed(ds).await {
            Ok(Governed::By(rules)) => !rules.access.groups.iter().any(|g| g.id == group),
            _ => false,
        }
    }

    /// How a volume's vmgroup is called in an administrator's listing.
    pub(crate) async fn group_shown(&self, ds: &DatastoreName, group: GroupId) -> String {
        match self.is_orphan(ds, group).await {
            true => NO_GROUP.to_owned(),
            false => self.group_name(ds, group).await.to_string(),
        }
    }

    /// The volume that `address` names, read now.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`] only after a look at every datastore where it could be; [`Error::SeveralFit`] with the
    /// candidates.
    pub(crate) async fn admin_find(&self, address: &str) -> Result<Stored, Error> {
        let asked = AdminAddress::parse(address)?;
        if let Some(id) = asked.id()
            && let Some(found) = self.by_id(id).await?
        {
            return Ok(found);
        }
        let datastore = match asked.datastore() {
            Some(ds) => Some(self.datastore_named(ds).await?.name),
            None => None,
        };
        let is_there = |ds: &DatastoreName| datastore.as_ref().is_none_or(|d| d == ds);
        let (volumes, unreadable) = self.all_volumes().await?;
        let mut found = Vec::new();
        for volume in volumes.iter().filter(|v| is_there(&v.place.ds)) {
            if self.bears_name(&asked, volume).await {
                found.extend(self.read_indexed(volume).await?);
            }
        }
        // A name wins over the beginning of an id.
        if found.is_empty() {
            for volume in volumes.iter().filter(|v| asked.fits(v.record.id)) {
                found.extend(self.read_indexed(volume).await?);
            }
        }
        if let [_, _, ..] = found.as_slice() {
            return Err(self.several_fit(address, &found).await);
        }
        let may_hide = |ds: &&DatastoreInfo| is_there(&ds.name);
        match (found.pop(), unreadable.iter().find(may_hide)) {
            (Some(stored), _) => Ok(stored),
            (None, Some(ds)) => Err(Error::DatastoreUnavailable {
                datastore: ds.name.clone(),
                why: "it is not accessible".to_owned(),
            }),
            (None, None) => Err(Error::VolumeNotFound {
                address: address.chars().take(300).collect(),
                looked_on: datastore.map_or_else(|| EVERYWHERE.to_owned(), |ds| ds.to_string()),
            }),
        }
    }

    async fn bears_name(&self, asked: &AdminAddress, volume: &Indexed) -> bool {
        let (ds, group) = (&volume.place.ds, volume.record.group);
        if asked
            .name
            .as_ref()
            .is_none_or(|n| n.name != volume.place.name)
        {
            return false;
        }
        match &asked.group {
            None => true,
            Some(GroupPart::Gone) => self.is_orphan(ds, group).await,
            Some(GroupPart::Named(name)) => {
                name.as_str() == group.to_string() || *name == self.group_name(ds, group).await
            }
        }
    }

    pub(crate) async fn read_indexed(&self, volume: &Indexed) -> Result<Option<Stored>, Error> {
        let place = &volume.place;
        match volume.recorded {
            true => self.read_record(place).await,
            false => self.original(&place.ds, place.folder, &place.name).await,
        }
    }

    async fn several_fit(&self, address: &str, found: &[Stored]) -> Error {
        let mut candidates = Vec::new();
        for stored in found.iter().take(MAX_LISTED) {
            let (ds, record) = (&stored.place.ds, &stored.record);
            let group = self.group_shown(ds, record.group).await;
            candidates.push(format!("{group}/{} (id {})", stored.name(), record.id));
        }
        candidates.sort();
        if let more @ 1.. = found.len().saturating_sub(MAX_LISTED) {
            candidates.push(format!("and {more} more"));
        }
        Error::SeveralFit {
            address: address.to_owned(),
            candidates,
        }
    }
}
