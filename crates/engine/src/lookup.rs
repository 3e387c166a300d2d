//! Finding a volume by the name a VM uses, and deciding whether the VM may.
//!
//! * `name@datastore` means the volume of that name there.
//! * A short `name` belongs to the volume that was created under it, on whichever datastore the VM may use; failing
//!   that to the volume of that name on the default datastore. Two that were created under it: refused, naming both.
//! * *Not found* is said only when every datastore where the name could be was read in this very call (P4).
//! * A name that is on its way from one vmgroup to another is neither here nor there: *try again*.
//!
//! This is the one gate: every verb of a VM comes through [`Inner::survey`] or [`Inner::usable`], and a verb that
//! changes something asks [`access::decide`] for the datastore its volume lies on, however the volume was named.

use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use vdvs_domain::access::{self, Denied, Verb, privilege_on};
use vdvs_domain::error::full_name;
use vdvs_domain::{DatastoreName, Error, GroupId, GroupName, VolumeAddress, VolumeName};

use crate::api::Caller;
use crate::governance::{Governed, Rules};
use crate::inner::Inner;
use crate::layout::Place;
use crate::ports::DatastoreInfo;
use crate::records::{Claim, RECORD_LOST, Stored};

/// A datastore the caller may use.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    pub(crate) ds: DatastoreName,
    pub(crate) group: GroupId,
    pub(crate) rules: Arc<Rules>,
}

/// What the caller sees of the datastores.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) open: Vec<Open>,
    /// Not readable now, with the reason.
    pub(crate) unreadable: Vec<(DatastoreName, Error)>,
    /// Closed to the caller, with the reason.
    pub(crate) closed: Vec<(DatastoreName, Error)>,
    /// The rules of all that have some.
    ruled: Vec<(DatastoreName, Arc<Rules>)>,
}

/// What a name led to.
#[derive(Debug)]
pub(crate) enum Looked {
    /// One volume.
    Found(Box<Stored>),
    /// No volume. `known`: every place it could be was read.
    Absent { known: Result<(), Error> },
}

impl Caller {
    /// The caller as the access rules know it.
    pub(crate) fn access(&self) -> access::Caller<'_> {
        access::Caller {
            instance_uuid: self.vm.id.instance_uuid,
            name: &self.vm.name,
            home: self.home.as_ref(),
        }
    }
}

/// Which of the volumes that bear a short name it belongs to.
fn owner_of_short_name(
    name: &VolumeName,
    default: Option<&DatastoreName>,
    mut found: Vec<Stored>,
) -> Result<Option<Stored>, Error> {
    let claimants: Vec<_> = found.iter().filter(|s| s.record.short_name).collect();
    if let [_, _, ..] = claimants.as_slice() {
        let mut datastores: Vec<_> = claimants.iter().map(|s| s.place.ds.to_string()).collect();
        datastores.sort();
        return Err(Error::Ambiguous {
            name: name.clone(),
            datastores: datastores.join(", "),
        });
    }
    let at = found
        .iter()
        .position(|s| s.record.short_name)
        .or_else(|| found.iter().position(|s| Some(&s.place.ds) == default));
    Ok(at.map(|at| found.swap_remove(at)))
}

fn closed(ds: &DatastoreName, why: &str) -> Error {
    Error::NotConfigured {
        datastore: ds.clone(),
        why: why.to_owned(),
    }
}

impl Inner {
    /// The datastores this VM may use.
    pub(crate) async fn survey(&self, caller: &Caller) -> Result<Survey, Error> {
        let known = self.datastores().await?;
        let looked = join_all(known.iter().map(|ds| self.governed_in_time(ds))).await;
        let mut survey = Survey::default();
        for (ds, governed) in known.into_iter().zip(looked) {
            match governed {
                Err(why) => survey.unreadable.push((ds.name, why)),
                Ok(Governed::Not(why)) => {
                    let error = closed(&ds.name, &why);
                    survey.closed.push((ds.name, error));
                }
                Ok(Governed::By(rules) | Governed::Fresh(rules)) => {
                    survey.ruled.push((ds.name.clone(), Arc::clone(&rules)));
                    let may = access::decide(&rules.access, &caller.access(), Verb::Use, &ds.name);
                    match may.map(|(group, _)| group.id) {
                        Ok(group) => survey.open.push(Open {
                            ds: ds.name,
                            group,
                            rules,
                        }),
                        // Nobody said its name.
                        Err(denied) => survey.closed.push((ds.name, denied.as_said(None).into())),
                    }
                }
            }
        }
        self.close_what_nobody_opened(caller, &mut survey);
        Ok(survey)
    }

    /// A datastore that cannot be read, and that the caller could not use when it could, hides nothing from it.
    fn close_what_nobody_opened(&self, caller: &Caller, survey: &mut Survey) {
        let unreadable = take(&mut survey.unreadable);
        for (ds, why) in unreadable {
            let rules = self.last_rules(&ds).map(|last| {
                // What was said of it since then, where another datastore of the same configuration can be read.
                let newer = survey.ruled.iter().find(|(_, r)| r.config == last.config);
                newer.map_or(last, |(_, rules)| Arc::clone(rules))
            });
            let may = rules
                .map(|r| access::decide(&r.access, &caller.access(), Verb::Use, &ds).map(drop));
            match may {
                Some(Err(denied)) => survey.closed.push((ds, denied.as_said(None).into())),
                Some(Ok(())) | None => survey.unreadable.push((ds, why)),
            }
        }
    }

    pub(crate) async fn governed_in_time(&self, ds: &DatastoreInfo) -> Result<Governed, Error> {
        if !ds.accessible {
            return Err(Error::DatastoreUnavailable {
                datastore: ds.name.clone(),
                why: "it is not accessible".to_owned(),
            });
        }
        self.answering(&ds.name, self.governed(&ds.name)).await
    }

    /// The rules of `ds` read now; none of a datastore that nobody used yet.
    pub(crate) async fn governed_now(
        &self,
        ds: &DatastoreName,
    ) -> Result<Option<Arc<Rules>>, Error> {
        match self.look_up_governed(ds).await? {
            Governed::By(rules) => Ok(Some(rules)),
            Governed::Fresh(_) => Ok(None),
            Governed::Not(why) => Err(closed(ds, &why)),
        }
    }

    /// The datastore a person means, whatever the letter case.
    pub(crate) async fn datastore_named(
        &self,
        asked: &DatastoreName,
    ) -> Result<DatastoreInfo, Error> {
        let known = self.datastores().await?;
        if let Some(exact) = known.iter().find(|ds| ds.name == *asked) {
            return Ok(exact.clone());
        }
        let alike: Vec<_> = known.iter().filter(|ds| ds.name.matches(asked)).collect();
        match alike.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err(Error::NoSuchDatastore {
                asked: asked.clone(),
                known: names_of(known.iter().map(|d| &d.name)),
            }),
            several => Err(Error::DatastoresAlike {
                found: several.iter().map(|d| d.name.to_string()).collect(),
            }),
        }
    }

    /// The same for a VM: it is told of the datastores it may use, not of all there are.
    async fn datastore_for(
        &self,
        caller: &Caller,
        asked: &DatastoreName,
    ) -> Result<DatastoreInfo, Error> {
        let failed = match self.datastore_named(asked).await {
            Err(failed @ (Error::NoSuchDatastore { .. } | Error::DatastoresAlike { .. })) => failed,
            other => return other,
        };
        let open = self.survey(caller).await?.open;
        match failed {
            Error::DatastoresAlike { .. } => {
                let alike: Vec<_> = open.iter().filter(|o| o.ds.matches(asked)).collect();
                match alike.as_slice() {
                    [one] => self.datastore_named(&one.ds).await,
                    [] => Err(unknown_to(asked, &open)),
                    several => Err(Error::DatastoresAlike {
                        found: several.iter().map(|o| o.ds.to_string()).collect(),
                    }),
                }
            }
            _ => Err(unknown_to(asked, &open)),
        }
    }

    /// Where a short name of this caller is created.
    pub(crate) async fn default_datastore(&self, caller: &Caller) -> Result<DatastoreName, Error> {
        let survey = self.survey(caller).await?;
        default_of(caller, &survey).unwrap_or_else(|| Err(first_reason(survey, caller, None)))
    }

    /// The rules of `ds` for this caller, whether or not it has a privilege there.
    async fn open_to(&self, caller: &Caller, ds: &DatastoreName) -> Result<Open, Error> {
        let info = self.datastore_for(caller, ds).await?;
        let governed = self.governed_in_time(&info).await?;
        let Some(rules) = governed.rules() else {
            let Governed::Not(why) = governed else {
                return Err(Error::Internal("rules without rules".to_owned()));
            };
            return Err(closed(&info.name, &why));
        };
        let group = access::group_of(&rules.access, &caller.access())?.id;
        Ok(Open {
            ds: info.name,
            group,
            rules: Arc::clone(rules),
        })
    }

    /// The rules of `ds`, checked for this caller's privilege to use it.
    pub(crate) async fn usable(&self, caller: &Caller, ds: &DatastoreName) -> Result<Open, Error> {
        self.usable_as(caller, ds, Some(ds)).await
    }

    /// The same where the caller may have said no datastore: then it is told none.
    pub(crate) async fn usable_as(
        &self,
        caller: &Caller,
        ds: &DatastoreName,
        said: Option<&DatastoreName>,
    ) -> Result<Open, Error> {
        let open = self.open_to(caller, ds).await?;
        let may = access::decide(&open.rules.access, &caller.access(), Verb::Use, &open.ds);
        let denied = match may {
            Ok(_) => return Ok(open),
            Err(denied) => denied.as_said(said),
        };
        if !matches!(denied, Denied::NoPrivilege { .. }) {
            return Err(denied.into());
        }
        match self.survey(caller).await?.open.as_slice() {
            [] => Err(denied.into()),
            open => Err(Error::NotPermittedThere {
                denied,
                permitted: names_of(open.iter().map(|o| &o.ds)),
            }),
        }
    }

    /// The volume of that name in one vmgroup on one datastore, read now. Volumes being made or removed do not exist.
    pub(crate) async fn named(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        name: &VolumeName,
    ) -> Result<Option<Stored>, Error> {
        // Where it was seen before its record tells whether it still is: two look-ups, and no claim need be read.
        for place in self.index.named(ds, group, name) {
            if let Some(stored) = self.read_record(&place).await?
                && stored.record.exists()
                && stored.record.group == group
            {
                return Ok(Some(stored));
            }
        }
        for place in self.places_named(ds, group, name).await? {
            let Some(stored) = self.read_record(&place).await? else {
                if !place.is_adopted() && self.disk_is_there(&place).await? {
                    return Err(Error::Damaged {
                        what: place.what(),
                        why: RECORD_LOST.to_owned(),
                    });
                }
                continue;
            };
            if stored.record.exists() {
                // The name is claimed for a volume that comes, or that left a moment ago: nobody may say that there is
                // no such volume, nor make another one.
                if stored.record.group != group {
                    let name = full_name(name, ds).to_string();
                    return Err(Error::OnTheMove { name });
                }
                return Ok(Some(stored));
            }
        }
        self.original_unmoved(ds, group, name).await
    }

    /// Where a volume of that name may be: where its claim says, which is looked up by its name now, and wherever else
    /// the index knows one. A record counts also without its claim (the claim keeps names unique, the record says what
    /// exists), but none is ever without one in what this agent does; so the folder is listed for it once, not each time.
    pub(crate) async fn places_named(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        name: &VolumeName,
    ) -> Result<Vec<Place>, Error> {
        let claim = self.read_claim(ds, group, name).await?;
        self.look_at_folder(ds, group, Duration::MAX).await?;
        let mut places = self.index.named(ds, group, name);
        if let Claim::Of(claim) = claim {
            let place = Place::of_claim(ds, group, &claim);
            if !places.contains(&place) {
                places.push(place);
            }
        }
        Ok(places)
    }

    /// What `address` means for this caller.
    pub(crate) async fn look_up(
        &self,
        caller: &Caller,
        address: &VolumeAddress,
    ) -> Result<Looked, Error> {
        if let Some(asked) = &address.datastore {
            let open = self.usable(caller, asked).await?;
            open.not_on_the_move(&address.name)?;
            let search = self.named(&open.ds, open.group, &address.name);
            let found = self.answering(&open.ds, search).await?;
            return Ok(found.map_or(Looked::Absent { known: Ok(()) }, |s| {
                Looked::Found(Box::new(s))
            }));
        }
        let mut survey = self.survey(caller).await?;
        for open in &survey.open {
            open.not_on_the_move(&address.name)?;
        }
        let searches = survey
            .open
            .iter()
            .map(|open| self.answering(&open.ds, self.named(&open.ds, open.group, &address.name)));
        let mut found = Vec::new();
        for (open, search) in survey.open.iter().zip(join_all(searches).await) {
            match search {
                Ok(stored) => found.extend(stored),
                Err(why) => survey.unreadable.push((open.ds.clone(), why)),
            }
        }
        // Of what was seen, not of another look: one that fails would hide what was found.
        let default = default_of(caller, &survey).and_then(Result::ok);
        if let Some(stored) = owner_of_short_name(&address.name, default.as_ref(), found)? {
            // Not created under the short name: the volume that was may lie where nobody can look now.
            return match survey.unreadable.into_iter().next() {
                Some((_, why)) if !stored.record.short_name => Err(why),
                _ => Ok(Looked::Found(Box::new(stored))),
            };
        }
        let known = match survey.unreadable.is_empty() && !survey.open.is_empty() {
            true => Ok(()),
            false => Err(first_reason(survey, caller, default.as_ref())),
        };
        Ok(Looked::Absent { known })
    }

    /// The volume of that name, or the error that says why there is none to use.
    pub(crate) async fn find(
        &self,
        caller: &Caller,
        address: &VolumeAddress,
    ) -> Result<Stored, Error> {
        match self.look_up(caller, address).await? {
            Looked::Found(stored) => Ok(*stored),
            Looked::Absent { known: Err(why) } => Err(why),
            Looked::Absent { known: Ok(()) } => Err(Error::VolumeNotFound {
                address: address.to_string(),
                looked_on: self.looked_on(caller, address).await?,
            }),
        }
    }

    pub(crate) async fn looked_on(
        &self,
        caller: &Caller,
        address: &VolumeAddress,
    ) -> Result<String, Error> {
        if let Some(ds) = &address.datastore {
            return Ok(self.datastore_named(ds).await?.name.to_string());
        }
        let survey = self.survey(caller).await?;
        Ok(survey
            .open
            .iter()
            .map(|o| o.ds.as_str())
            .collect::<Vec<_>>()
            .join(", "))
    }

    /// The total of the caller's vmgroup on a datastore.
    pub(crate) fn total_limit(open: &Open, caller: &Caller) -> Option<u64> {
        let group = access::group_of(&open.rules.access, &caller.access()).ok()?;
        privilege_on(group, &caller.access(), &open.ds)?.total_bytes
    }
}

/// Where a short name of this caller is created, by the rules of what can be read; none where nothing can.
fn default_of(caller: &Caller, survey: &Survey) -> Option<Result<DatastoreName, Error>> {
    let of = |ds: Option<&DatastoreName>| survey.ruled.iter().find(|(name, _)| Some(name) == ds);
    let names_it = |(_, rules): &&(DatastoreName, Arc<Rules>)| {
        let naming = rules.access.group_naming(caller.vm.id.instance_uuid);
        naming.is_some()
    };
    let (_, rules) = of(caller.home.as_ref())
        .or_else(|| survey.ruled.iter().find(names_it))
        .or_else(|| survey.ruled.first())?;
    let default = access::group_of(&rules.access, &caller.access())
        .and_then(|group| access::default_datastore(group, &caller.access()));
    Some(default.map_err(Into::into))
}

fn names_of<'a>(datastores: impl Iterator<Item = &'a DatastoreName>) -> String {
    let names: Vec<&str> = datastores.map(DatastoreName::as_str).collect();
    names.join(", ")
}

/// Why it is not known what a short name means: a datastore that cannot be read, else why the default one is closed,
/// else any.
fn first_reason(survey: Survey, caller: &Caller, default: Option<&DatastoreName>) -> Error {
    let of_default = survey.closed.iter().find(|(ds, _)| Some(ds) == default);
    let of_default = of_default.map(|(_, why)| why.clone());
    let mut unreadable = survey.unreadable.into_iter().map(|(_, why)| why);
    let mut closed = survey.closed.into_iter().map(|(_, why)| why);
    unreadable
        .next()
        .or(of_default)
        .or_else(|| closed.next())
        .unwrap_or_else(|| {
            Denied::NoDefaultDatastore {
                group: GroupName::default_group(),
                vm: caller.vm.name.clone(),
            }
            .into()
        })
}

fn unknown_to(asked: &DatastoreName, open: &[Open]) -> Error {
    let known = match open {
        [] => "none that this VM may use".to_owned(),
        open => names_of(open.iter().map(|o| &o.ds)),
    };
    Error::NoSuchDatastore {
        asked: asked.clone(),
        known,
    }
}

impl Open {
    /// Whether the name is on its way between vmgroups: nobody may take it for absent then.
    fn not_on_the_move(&self, name: &VolumeName) -> Result<(), Error> {
        match self.rules.access.transfer_of(self.group, name) {
            Some(_) => Err(Error::OnTheMove {
                name: name.to_string(),
            }),
            None => Ok(()),
        }
    }
}
