//! Which room may use which. The table is the design; a new edge is a decision, made here and in `ARCHITECTURE.md`.

use super::metadata::{Dependency, Kind, Package};

/// What one room may use of the others.
enum Uses {
    Only(&'static [&'static str]),
    /// All but these.
    AllBut(&'static [&'static str]),
}

/// Rooms whose crates are programs: nobody builds on them but the black-box suites and this tool.
const PROGRAMS: &[&str] = &[
    "vdvs-agent",
    "vdvs-admin",
    "vdvs-plugin",
    "vdvs-sim",
    "vdvs-tests",
    "xtask",
];

/// Judges the house from outside, so it takes nothing of it, in its tests neither.
const INDEPENDENT: &str = "writer-check";

const ROOMS: &[(&str, Uses)] = &[
    ("vdvs-domain", Uses::Only(&[])),
    ("vdvs-api", Uses::Only(&["vdvs-domain"])),
    ("vdvs-transport", Uses::Only(&[])),
    ("vdvs-vmdk", Uses::Only(&["vdvs-domain"])),
    ("vdvs-blockdev", Uses::Only(&["vdvs-domain"])),
    ("vdvs-engine", Uses::Only(&["vdvs-domain"])),
    ("vdvs-store", Uses::Only(&["vdvs-domain", "vdvs-engine"])),
    ("vdvs-vim", Uses::Only(&[])),
    ("vdvs-host-sim", Uses::Only(&["vdvs-domain", "vdvs-engine"])),
    (
        "vdvs-host-lab",
        Uses::Only(&["vdvs-domain", "vdvs-engine", "vdvs-vmdk"]),
    ),
    (
        "vdvs-host-esxi",
        Uses::Only(&["vdvs-domain", "vdvs-engine", "vdvs-vim", "vdvs-vmdk"]),
    ),
    (
        "vdvs-agent",
        Uses::Only(&[
            "vdvs-api",
            "vdvs-domain",
            "vdvs-engine",
            "vdvs-host-esxi",
            "vdvs-host-lab",
            "vdvs-host-sim",
            "vdvs-store",
            "vdvs-transport",
        ]),
    ),
    (
        "vdvs-admin",
        Uses::Only(&["vdvs-api", "vdvs-domain", "vdvs-transport"]),
    ),
    (
        "vdvs-plugin",
        Uses::Only(&["vdvs-api", "vdvs-blockdev", "vdvs-domain", "vdvs-transport"]),
    ),
    (
        "vdvs-sim",
        Uses::Only(&[
            "vdvs-api",
            "vdvs-blockdev",
            "vdvs-domain",
            "vdvs-engine",
            "vdvs-host-sim",
            "vdvs-plugin",
        ]),
    ),
    (
        "vdvs-explore",
        Uses::Only(&["vdvs-domain", "vdvs-engine", "vdvs-host-sim"]),
    ),
    (
        "vdvs-matrix",
        Uses::Only(&[
            "vdvs-blockdev",
            "vdvs-domain",
            "vdvs-engine",
            "vdvs-host-sim",
            "vdvs-plugin",
        ]),
    ),
    ("vdvs-esx-vib", Uses::Only(&[])),
    ("vdvs-testkit", Uses::AllBut(PROGRAMS)),
    ("vdvs-corpus", Uses::Only(&[])),
    (INDEPENDENT, Uses::Only(&[])),
    ("vdvs-tests", Uses::AllBut(&[])),
    ("xtask", Uses::AllBut(&[])),
];

/// What every room may use in its tests.
const IN_TESTS: &[&str] = &["vdvs-testkit", "vdvs-host-sim", "vdvs-corpus"];

/// The domain is pure: no runtime, no I/O, no clock, no wire.
const DOMAIN_EXTERNAL: &[&str] = &["serde", "thiserror", "uuid"];

/// Every edge the table does not allow, and every room it does not know.
pub(super) fn violations(packages: &[Package]) -> Vec<String> {
    let mut found = Vec::new();
    for package in packages {
        let Some((_, uses)) = ROOMS.iter().find(|(room, _)| *room == package.name) else {
            found.push(format!(
                "{} is a room the layering table does not know",
                package.name
            ));
            continue;
        };
        for dependency in &package.dependencies {
            if let Some(problem) = judge(package, uses, dependency) {
                found.push(problem);
            }
        }
    }
    found
}

fn judge(package: &Package, uses: &Uses, dependency: &Dependency) -> Option<String> {
    let (from, to) = (package.name.as_str(), dependency.name.as_str());
    let in_tests = dependency.kind == Kind::Dev;
    if !is_room(to) {
        let pure = from != "vdvs-domain" || in_tests || DOMAIN_EXTERNAL.contains(&to);
        return (!pure).then(|| format!("{from} must stay pure and may not use {to}"));
    }
    // A crate's tests switch on its own features through itself.
    let own = in_tests && from == to;
    let helper = in_tests && IN_TESTS.contains(&to) && from != INDEPENDENT;
    let by_table = match uses {
        Uses::Only(rooms) => rooms.contains(&to),
        Uses::AllBut(rooms) => !rooms.contains(&to),
    };
    (!(own || helper || by_table)).then(|| format!("{from} may not use {to}: arrows point one way"))
}

fn is_room(name: &str) -> bool {
    ROOMS.iter().any(|(room, _)| *room == name) || name.starts_with("vdvs-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, Kind)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(name, kind)| Dependency {
                name: (*name).to_owned(),
                rename: None,
                kind: *kind,
            })
            .collect();
        Package::planted(name, dependencies)
    }

    fn judge_one(name: &str, to: &str, kind: Kind) -> Vec<String> {
        violations(&[package(name, &[(to, kind)])])
    }

    #[test]
    fn edges_of_the_table_are_allowed() {
        assert!(judge_one("vdvs-engine", "vdvs-domain", Kind::Normal).is_empty());
        assert!(judge_one("vdvs-agent", "vdvs-store", Kind::Normal).is_empty());
        assert!(judge_one("vdvs-engine", "tokio", Kind::Normal).is_empty());
        assert!(judge_one("xtask", "vdvs-testkit", Kind::Normal).is_empty());
    }

    #[test]
    fn an_edge_against_the_arrows_is_named() {
        let found = judge_one("vdvs-domain", "vdvs-engine", Kind::Normal);
        assert_eq!(
            found,
            ["vdvs-domain may not use vdvs-engine: arrows point one way"]
        );
        assert_eq!(
            judge_one("vdvs-engine", "vdvs-store", Kind::Normal).len(),
            1
        );
        assert_eq!(
            judge_one("vdvs-plugin", "vdvs-engine", Kind::Normal).len(),
            1
        );
        assert_eq!(
            judge_one("vdvs-testkit", "vdvs-agent", Kind::Normal).len(),
            1
        );
    }

    #[test]
    fn a_wrong_edge_in_the_tests_or_the_build_script_is_one_too() {
        assert_eq!(judge_one("vdvs-domain", "vdvs-store", Kind::Dev).len(), 1);
        assert_eq!(judge_one("vdvs-domain", "vdvs-store", Kind::Build).len(), 1);
    }

    #[test]
    fn the_test_side_may_be_used_in_tests_only() {
        assert!(judge_one("vdvs-engine", "vdvs-testkit", Kind::Dev).is_empty());
        assert!(judge_one("vdvs-engine", "vdvs-host-sim", Kind::Dev).is_empty());
        assert!(judge_one("vdvs-blockdev", "vdvs-blockdev", Kind::Dev).is_empty());
        assert_eq!(
            judge_one("vdvs-engine", "vdvs-testkit", Kind::Normal).len(),
            1
        );
    }

    #[test]
    fn what_judges_the_house_takes_nothing_of_it() {
        for kind in [Kind::Normal, Kind::Dev, Kind::Build] {
            assert_eq!(judge_one(INDEPENDENT, "vdvs-testkit", kind).len(), 1);
            assert_eq!(judge_one(INDEPENDENT, "vdvs-domain", kind).len(), 1);
        }
        assert!(judge_one(INDEPENDENT, "nix", Kind::Normal).is_empty());
    }

    #[test]
    fn the_domain_stays_pure() {
        for outside in ["tokio", "rusqlite", "tonic", "tracing"] {
            assert_eq!(
                judge_one("vdvs-domain", outside, Kind::Normal).len(),
                1,
                "{outside}"
            );
        }
        assert!(judge_one("vdvs-domain", "serde", Kind::Normal).is_empty());
        assert!(judge_one("vdvs-domain", "proptest", Kind::Dev).is_empty());
    }

    #[test]
    fn a_room_that_is_not_in_the_table_is_named() {
        let found = violations(&[package("vdvs-attic", &[])]);
        assert_eq!(
            found,
            ["vdvs-attic is a room the layering table does not know"]
        );
    }

    #[test]
    fn the_table_itself_has_no_cycle() {
        // A room uses only rooms that stand above it, so the order of the table is a proof.
        for (at, (room, uses)) in ROOMS.iter().enumerate() {
            let Uses::Only(rooms) = uses else { continue };
            for used in *rooms {
                let earlier = ROOMS[..at].iter().any(|(name, _)| name == used);
                assert!(earlier, "{room} uses {used}, which stands below it");
            }
        }
    }
}
