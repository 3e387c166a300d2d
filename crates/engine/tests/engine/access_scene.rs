//! The world of the table of access: a vmgroup in any situation, and what each verb then says.

use std::fmt::{self, Write as _};
use std::time::Duration;

use vdvs_domain::Error;
use vdvs_domain::access::{ChangePrivilege, CreateGroup, Leaving, UpdateGroup};
use vdvs_engine::api::{Attached, Caller, GroupChange, Teller};

use super::access::Situation;
use super::support::{Lab, call, ds, given, rand_request, root, volume};

pub(crate) const PLACES: [&str; 3] = ["home", "other", "third"];

/// How the VM comes to its vmgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The vmgroup names it.
    Named,
    /// No vmgroup does: `_DEFAULT`.
    Default,
}

impl Way {
    pub(crate) const fn group(self) -> &'static str {
        match self {
            Self::Named => "dev",
            Self::Default => "_DEFAULT",
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Attach,
    Delete,
    CloneFrom,
    /// A volume of 6 MB.
    Create,
    /// One of 11 MB.
    CreateLarge,
    /// A clone of a volume of 6 MB.
    CloneTo,
    /// A clone of one of 11 MB.
    CloneLargeTo,
}

pub(crate) const OF_NEW: [Verb; 4] = [
    Verb::Create,
    Verb::CreateLarge,
    Verb::CloneTo,
    Verb::CloneLargeTo,
];

/// A way of naming a volume.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    pub(crate) text: &'static str,
    /// Where the volume is, or is to come; none: no datastore of that name.
    pub(crate) at: Option<usize>,
    /// There is a volume of that name in the vmgroup.
    pub(crate) exists: bool,
    /// By its datastore's name.
    pub(crate) in_full: bool,
}

pub(crate) const fn old(text: &'static str, at: usize, in_full: bool) -> Form {
    Form {
        text,
        at: Some(at),
        exists: true,
        in_full,
    }
}

pub(crate) const fn gone(text: &'static str, at: usize, in_full: bool) -> Form {
    Form {
        text,
        at: Some(at),
        exists: false,
        in_full,
    }
}

pub(crate) struct Scene {
    pub(crate) lab: Lab,
    pub(crate) vm: Caller,
    pub(crate) way: Way,
    pub(crate) may: Vec<char>,
    pub(crate) default: usize,
    /// What the vmgroup uses on each datastore, in MB.
    pub(crate) used: u64,
}

impl fmt::Debug for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} with {:?}", self.way, self.may)
    }
}

impl Scene {
    pub(crate) async fn change(&self, change: GroupChange) {
        let (user, teller) = (root(), Teller::default());
        let done = self.lab.engine.admin_change_group(&user, &change, &teller);
        done.await.unwrap_or_else(|e| panic!("{change:?}: {e}"));
    }

    pub(crate) async fn row(
        &self,
        set: fn(ChangePrivilege) -> GroupChange,
        scope: &str,
        limits: [Option<String>; 3],
    ) {
        let [allow_create, max_size, total_size] = limits;
        self.change(set(ChangePrivilege {
            group: self.way.group().to_owned(),
            datastore: scope.to_owned(),
            allow_create,
            max_size,
            total_size,
        }))
        .await;
    }

    pub(crate) async fn default_to(&self, place: &str) {
        self.change(GroupChange::Update(UpdateGroup {
            name: self.way.group().to_owned(),
            default_datastore: Some(place.to_owned()),
            ..UpdateGroup::default()
        }))
        .await;
    }

    pub(crate) async fn make(&self, who: &Caller, name: &str, size: &str) {
        let (call, options) = (call(rand_request()), given(&[("size", size)]));
        let address = volume(name);
        let made = self.lab.engine.create(who, &call, &address, &options);
        made.await.unwrap_or_else(|e| panic!("create {name}: {e}"));
    }

    /// A world with volumes of this VM's vmgroup and of another one, in which everything is allowed.
    pub(crate) async fn new(way: Way) -> Self {
        let lab = Lab::with_datastores(&PLACES);
        let at_home = |n| Caller {
            home: Some(ds("home")),
            ..lab.caller(n)
        };
        let (vm, stranger) = (at_home(1), at_home(2));
        let scene = Self {
            lab,
            vm,
            way,
            may: vec!['f'; 3],
            default: 0,
            used: 0,
        };
        scene.make(&scene.vm, "first@home", "1mb").await;
        let make_group = |name: &str, vm: &str| {
            GroupChange::Create(CreateGroup {
                name: name.to_owned(),
                default_datastore: "home".to_owned(),
                vms: vec![vm.to_owned()],
                volumes: Leaving::Leave,
                ..CreateGroup::default()
            })
        };
        scene.change(make_group("team", "vm2")).await;
        if way == Way::Named {
            scene.change(make_group("dev", "vm1")).await;
            scene
                .row(
                    GroupChange::AddPrivilege,
                    "_ALL_DS",
                    [Some("True".to_owned()), None, None],
                )
                .await;
        }
        scene
            .change(GroupChange::AddPrivilege(ChangePrivilege {
                group: "team".to_owned(),
                datastore: "_ALL_DS".to_owned(),
                allow_create: Some("True".to_owned()),
                ..ChangePrivilege::default()
            }))
            .await;
        for place in PLACES {
            let letter = &place[..1];
            scene.default_to(place).await;
            scene.make(&scene.vm, &format!("s{letter}"), "6mb").await;
            for kind in ["f", "g"] {
                scene
                    .make(&scene.vm, &format!("{kind}{letter}@{place}"), "6mb")
                    .await;
            }
            scene
                .make(&scene.vm, &format!("large{letter}@{place}"), "11mb")
                .await;
            for name in ["secret", "secret0", "secret1", "secret2", "secret3"] {
                let name = format!("{name}@{place}");
                scene.make(&stranger, &name, "6mb").await;
            }
        }
        scene
    }

    pub(crate) async fn arrange(&mut self, situation: &Situation) {
        // `first` is of `_DEFAULT`.
        self.used = 3 * 6 + 11;
        self.default_to(situation.default).await;
        for (scope, letter) in situation.rows {
            let in_default = u64::from(self.way == Way::Default && *scope == "home");
            let (create, max, total) = match letter {
                'm' => ("False", "unlimited", "Unset".to_owned()),
                'l' => ("True", "10MB", "Unset".to_owned()),
                'q' => ("True", "0", format!("{}MB", self.used + 5 + in_default)),
                _ => ("True", "0", "0".to_owned()),
            };
            let limits = || {
                [
                    Some(create.to_owned()),
                    Some(max.to_owned()),
                    Some(total.clone()),
                ]
            };
            let has = self.rows().await.contains(&(*scope).to_owned());
            match has {
                true => self.row(GroupChange::SetPrivilege, scope, limits()).await,
                false => self.row(GroupChange::AddPrivilege, scope, limits()).await,
            }
        }
        for scope in self.rows().await {
            if !situation.rows.iter().any(|(kept, _)| *kept == scope) {
                self.row(GroupChange::RemovePrivilege, &scope, [None, None, None])
                    .await;
            }
        }
        self.may = situation.may.chars().collect();
        self.default = PLACES
            .iter()
            .position(|p| *p == situation.default)
            .unwrap_or(0);
    }

    pub(crate) async fn rows(&self) -> Vec<String> {
        let listed = self
            .lab
            .engine
            .admin_groups(Some(self.way.group()))
            .await
            .unwrap();
        let rows = listed.groups[0].group.privileges.iter();
        rows.map(|p| p.datastore.to_string()).collect()
    }

    pub(crate) fn permitted(&self) -> Vec<&'static str> {
        let may = |(at, _): &(usize, &&str)| self.may[*at] != 'n';
        PLACES
            .iter()
            .enumerate()
            .filter(may)
            .map(|(_, p)| *p)
            .collect()
    }

    pub(crate) fn no_access(&self, spot: &str, tells: bool) -> String {
        let group = self.way.group();
        let mut text = format!(
            "No access privilege exists for vmgroup {group} on {spot}; an administrator grants it with: vdvs vmgroup access add"
        );
        if tells && !self.permitted().is_empty() {
            write!(
                text,
                ". Datastores this VM may use: {}",
                self.permitted().join(", ")
            )
            .unwrap();
        }
        text
    }

    pub(crate) fn unknown(&self) -> String {
        let known = match self.permitted().as_slice() {
            [] => "none that this VM may use".to_owned(),
            some => some.join(", "),
        };
        format!(
            "Invalid datastore 'nowhere'.\nKnown datastores: {known}.\nName one of these, as in volume@datastore, or none."
        )
    }

    /// `datastore X` as the VM wrote it.
    pub(crate) fn spot(form: &Form) -> String {
        let (_, place) = form.text.split_once('@').unwrap();
        format!("datastore {place}")
    }

    /// What a verb on a volume that may be there says; empty: it succeeds.
    pub(crate) fn said_of_old(&self, verb: Verb, form: &Form) -> String {
        let Some(at) = form.at else {
            return self.unknown();
        };
        let may = self.may[at];
        if form.in_full && may == 'n' {
            return self.no_access(&Self::spot(form), true);
        }
        if !form.in_full && self.permitted().is_empty() {
            return self.no_access("the default datastore", false);
        }
        if !form.exists || may == 'n' {
            let looked_on = match form.in_full {
                true => PLACES[at].to_owned(),
                false => self.permitted().join(", "),
            };
            let name = form.text;
            return match verb {
                Verb::CloneFrom => format!(
                    "Could not find volume for cloning {name} (looked on: {looked_on}); docker volume ls shows the volumes there are"
                ),
                _ => format!(
                    "Volume {name} not found (looked on: {looked_on}); docker volume ls shows the volumes there are"
                ),
            };
        }
        match verb {
            Verb::Delete if may == 'm' => format!(
                "No delete privilege for vmgroup {} on datastore {}; an administrator grants it with: vdvs vmgroup access set --allow-create=True",
                self.way.group(),
                PLACES[at]
            ),
            _ => String::new(),
        }
    }

    /// What a verb that makes a volume says; empty: it succeeds.
    pub(crate) fn said_of_new(&self, verb: Verb, form: &Form) -> String {
        if form.in_full && form.at.is_none() {
            return self.unknown();
        }
        let at = form.at.unwrap_or(self.default);
        let (group, place) = (self.way.group(), PLACES[at]);
        let mb = match verb {
            Verb::Create | Verb::CloneTo => 6,
            _ => 11,
        };
        match self.may[at] {
            'n' if form.in_full => self.no_access(&Self::spot(form), true),
            'n' => self.no_access("the default datastore", true),
            'm' => format!(
                "No create privilege for vmgroup {group} on datastore {place}; an administrator grants it with: vdvs vmgroup access set --allow-create=True"
            ),
            'l' if mb > 10 => format!(
                "Volume size exceeds the max volume size limit: asked {mb}MB, vmgroup {group} may make volumes of at most 10MB on datastore {place}"
            ),
            'q' => "The total volume size exceeds the usage quota".to_owned(),
            _ => String::new(),
        }
    }

    pub(crate) async fn clone_of(&self, name: &str, source: &str) -> Result<(), Error> {
        let (call, options) = (call(rand_request()), given(&[("clone-from", source)]));
        let name = volume(name);
        let made = self.lab.engine.create(&self.vm, &call, &name, &options);
        made.await.map(drop)
    }

    pub(crate) async fn try_old(&self, verb: Verb, form: &Form) -> Result<(), Error> {
        let (engine, name) = (&self.lab.engine, volume(form.text));
        match verb {
            Verb::Get => engine.get(&self.vm, &name).await.map(drop),
            Verb::Delete => engine
                .delete(&self.vm, &call(rand_request()), &name, None)
                .await
                .map(drop),
            Verb::Attach => {
                let attached = self.try_attach(form.text).await?;
                self.let_go(&attached).await;
                Ok(())
            }
            _ => {
                let target = self.may.iter().position(|m| *m == 'f').unwrap();
                let fresh = format!("c{}@{}", rand_request(), PLACES[target]);
                self.clone_of(&fresh, form.text).await
            }
        }
    }

    pub(crate) async fn try_attach(&self, name: &str) -> Result<Attached, Error> {
        let call = call(rand_request());
        self.lab
            .engine
            .attach(&self.vm, &call, &volume(name), false, Duration::ZERO)
            .await
    }

    pub(crate) async fn let_go(&self, attached: &Attached) {
        let (id, epoch) = (attached.view.id, attached.epoch);
        let call = call(rand_request());
        let done = self.lab.engine.detach(&self.vm, &call, id, epoch).await;
        assert!(done.unwrap().is_change(), "who has a volume may let it go");
    }

    pub(crate) async fn try_new(&self, verb: Verb, fresh: &str) -> Result<(), Error> {
        let open = self.may.iter().position(|m| *m != 'n');
        let letter = &PLACES[open.unwrap_or(0)][..1];
        let place = PLACES[open.unwrap_or(0)];
        match verb {
            Verb::Create | Verb::CreateLarge => {
                let size = if verb == Verb::Create { "6mb" } else { "11mb" };
                let options = given(&[("size", size)]);
                let call = call(rand_request());
                let name = volume(fresh);
                let made = self.lab.engine.create(&self.vm, &call, &name, &options);
                made.await.map(drop)
            }
            Verb::CloneTo => self.clone_of(fresh, &format!("f{letter}@{place}")).await,
            _ => {
                self.clone_of(fresh, &format!("large{letter}@{place}"))
                    .await
            }
        }
    }

    pub(crate) fn check(&self, what: &str, result: Result<(), Error>, expected: &str) {
        match (result, expected) {
            (Ok(()), "") => {}
            (Ok(()), _) => panic!("{self:?}: {what} went through; expected: {expected}"),
            (Err(e), "") => panic!("{self:?}: {what}: {e}"),
            (Err(e), quota) if quota.ends_with("usage quota") => {
                assert!(e.to_string().starts_with(quota), "{self:?}: {what}: {e}");
            }
            (Err(e), text) => assert_eq!(e.to_string(), text, "{self:?}: {what}"),
        }
    }

    /// The names this VM sees, sorted.
    pub(crate) async fn list(&self) -> Vec<String> {
        let listing = self.lab.engine.list(&self.vm).await.unwrap();
        let names = listing.volumes.iter();
        let mut names: Vec<_> = names
            .map(|v| format!("{}@{}", v.name, v.datastore))
            .collect();
        names.sort();
        names
    }

    pub(crate) fn expected_list(&self) -> Vec<String> {
        let mut names = Vec::new();
        for place in self.permitted() {
            let letter = &place[..1];
            for kind in ["s", "f", "g", "large"] {
                names.push(format!("{kind}{letter}@{place}"));
            }
            if self.way == Way::Default && place == "home" {
                names.push("first@home".to_owned());
            }
        }
        names.sort();
        names
    }
}
