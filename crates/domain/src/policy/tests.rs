//! The grammar both ways, its borders, and the changes.

use proptest::prelude::*;

use super::*;
use crate::access::AccessConfig;
use crate::names::PolicyName;

const COMMON: &str = r#"(("hostFailuresToTolerate" i1) ("forceProvisioning" i1))"#;

fn parse(text: &str) -> Result<PolicyExpression, PolicyError> {
    PolicyExpression::parse(text)
}

fn name(text: &str) -> PolicyName {
    PolicyName::new(text).unwrap()
}

#[test]
fn one_meaning_has_one_spelling() {
    let rows = [
        (COMMON, COMMON),
        (
            "\t( (\"stripeWidth\"   i02 )\n)\n",
            r#"(("stripeWidth" i2))"#,
        ),
        (
            r#"(("proportionalCapacity" (i0   i100))("spbmProfileGenerationNumber" l+0))"#,
            r#"(("proportionalCapacity" (i0 i100)) ("spbmProfileGenerationNumber" l0))"#,
        ),
        (
            r#"(("replicaPreference" "Capacity") ("spbmProfileName" "vSAN Default Storage Policy"))"#,
            r#"(("replicaPreference" "Capacity") ("spbmProfileName" "vSAN Default Storage Policy"))"#,
        ),
    ];
    for (given, written) in rows {
        assert_eq!(parse(given).unwrap().to_string(), written, "{given}");
    }
    let turned = parse(r#"(("forceProvisioning" i1) ("hostFailuresToTolerate" i1))"#).unwrap();
    assert!(turned.same_as(&parse(COMMON).unwrap()));
    assert!(!turned.same_as(&parse(r#"(("forceProvisioning" i1))"#).unwrap()));
}

#[test]
fn a_mistake_is_shown_where_it_stands() {
    let rows = [
        ("", 1, "expected '(', which opens the policy, found the end"),
        ("hostFailuresToTolerate=1", 1, "found 'h'"),
        ("()", 3, "ends without a key"),
        (r#"("a" i1)"#, 2, "'(', which opens a key, found '\"'"),
        (
            r#"(("a" i1)"#,
            10,
            "')', which closes the policy, found the end",
        ),
        (r#"(("a" i1)) x"#, 12, "'x' follows"),
        (r#"(("a" i1 i2))"#, 10, "closes \"a\""),
        (r#"(("a" 1))"#, 7, "expected a value such as i1"),
        (r#"(("a" i))"#, 7, "'i' is no number of 32 bits"),
        (r#"(("a" i2147483648))"#, 7, "is no number of 32 bits"),
        (r#"(("a" "x))"#, 8, "quotes are not closed"),
        (
            r#"(("a" "x'; reboot #"))"#,
            9,
            "''' may not stand in a text",
        ),
        (r#"(("a" "ż$"))"#, 8, "'ż' may not stand in a text"),
        (r#"(("" i1))"#, 3, "is no key"),
        (r#"(("a b" i1))"#, 3, "is no key"),
        (r#"(("a" i1) ("a" i2))"#, 11, "a second time"),
        (r#"(("a" ((i1))))"#, 8, "expected a value"),
        (r#"(("a" ()))"#, 9, "ends without a value"),
        (
            r#"(("hostFailuresToTolerate" i4))"#,
            28,
            "expected i0 to i3",
        ),
        (
            r#"(("hostFailuresToTolerate" "1"))"#,
            28,
            "expected i0 to i3",
        ),
        (
            r#"(("proportionalCapacity" (i9 i1)))"#,
            26,
            "ends below its beginning",
        ),
        (
            r#"(("proportionalCapacity" (i0 i101)))"#,
            26,
            "expected i0 to i100",
        ),
        (
            r#"(("replicaPreference" "Speed"))"#,
            23,
            "\"Performance\" or \"Capacity\"",
        ),
    ];
    for (text, at, why) in rows {
        let found = parse(text).unwrap_err();
        assert!(found.why.contains(why), "{text}: {found}");
        assert_eq!(found.at, at, "{text}: {found}");
    }
    let long = format!("((\"a\" \"{}\"))", "x".repeat(MAX_TEXT));
    assert_eq!(parse(&long).unwrap_err().at, MAX_TEXT);
    let many: String = (0..=MAX_ENTRIES)
        .map(|n| format!("(\"k{n}\" i1)"))
        .collect();
    assert!(parse(&format!("({many})")).is_err());
}

#[test]
fn a_key_that_is_not_known_is_kept_and_warned_of() {
    // The original's own manual misspelt one.
    let policy = parse(r#"(("hostFailureToTolerate" i1) ("stripeWidth" i1))"#).unwrap();
    let warnings = policy.warnings(&name("gold"));
    assert_eq!(
        warnings,
        [
            "policy gold: key \"hostFailureToTolerate\" is not known here and is passed on as it is. Did you mean 'hostFailuresToTolerate'?"
        ]
    );
    assert!(parse(COMMON).unwrap().warnings(&name("gold")).is_empty());
}

#[test]
fn a_policy_needs_two_hosts_more_for_each_failure_unless_it_is_forced() {
    let refused = |text: &str, hosts| parse(text).unwrap().unsatisfiable_with(hosts).is_some();
    let failures = |n: u32| format!("((\"hostFailuresToTolerate\" i{n}))");
    for n in 0..=3 {
        assert!(!refused(&failures(n), 2 * n + 1), "{n}");
        assert!(refused(&failures(n), 2 * n), "{n}");
    }
    assert!(refused(r#"(("stripeWidth" i1))"#, 2), "vSAN tolerates one");
    let raid5 = r#"(("hostFailuresToTolerate" i1) ("replicaPreference" "Capacity"))"#;
    assert!(refused(raid5, 3) && !refused(raid5, 4));
    assert!(!refused(COMMON, 1), "forced");
}

/// `original-host.md` 2.6 and 8.4.
#[test]
fn changes_answer_with_the_originals_words() {
    let mut config = AccessConfig::open_to_all();
    let gold = name("gold");
    let text = |e: PolicyFault| e.to_string();
    let made = create(&mut config, &gold, " ((\"stripeWidth\" i1))\n").unwrap();
    assert_eq!(made.policy.content, r#"(("stripeWidth" i1))"#);
    let again = text(create(&mut config, &gold, COMMON).unwrap_err());
    assert!(again.starts_with("Error: Policy already exists"), "{again}");
    let bad = text(create(&mut config, &name("bad"), "gold").unwrap_err());
    assert!(bad.starts_with("Error: Invalid policy string"), "{bad}");
    let none = text(update(&mut config, &name("silver"), COMMON).unwrap_err());
    assert!(
        none.starts_with("Error: Policy silver does not exist"),
        "{none}"
    );
    let same = update(&mut config, &gold, "( (\"stripeWidth\"  i1) )").unwrap();
    assert!(!same.changed && same.policy.version == 1);
    let other = update(&mut config, &gold, COMMON).unwrap();
    assert!(other.changed && other.policy.version == 2);
    assert_eq!(find(&config, &gold).unwrap().content, COMMON);
    let bad = update(&mut config, &gold, "(").unwrap_err();
    assert!(matches!(bad, PolicyFault::Content(_)), "{bad}");
    assert_eq!(find(&config, &gold).unwrap().version, 2, "left as it was");
    remove(&mut config, &gold).unwrap();
    let gone = text(remove(&mut config, &gold).unwrap_err());
    assert!(gone.starts_with("Policy gold does not exist"), "{gone}");
}

/// Row S-1: names that the original would have joined to a path.
#[test]
fn s1_a_policys_name_is_a_word_and_never_a_path() {
    let mut config = AccessConfig::open_to_all();
    for bad in ["../../x", "a/b", "..", ".", "", "a\0b", "a\nb"] {
        assert!(PolicyName::new(bad).is_err(), "{bad:?}");
    }
    for bad in [".old", "-n", " x", "x ", "a;b", "a'b", "$(x)", "a*", "żółw"] {
        let refused = create(&mut config, &name(bad), COMMON).unwrap_err();
        assert!(
            matches!(refused, PolicyFault::Name(_)),
            "{bad:?}: {refused}"
        );
    }
    for good in ["gold", "Gold 2.1", "_x-y"] {
        create(&mut config, &name(good), COMMON).unwrap();
    }
}

#[test]
fn policies_are_bounded() {
    let mut config = AccessConfig::open_to_all();
    for n in 0..MAX_POLICIES {
        create(&mut config, &name(&format!("p{n}")), COMMON).unwrap();
    }
    let refused = create(&mut config, &name("more"), COMMON).unwrap_err();
    assert_eq!(refused, PolicyFault::TooMany);
}

#[test]
fn many_volumes_are_counted_and_some_are_named() {
    let volumes: Vec<String> = (0..30).map(|n| format!("v{n}@vsan")).collect();
    let text = PolicyFault::InUse { volumes }.to_string();
    assert!(
        text.starts_with("Cannot remove. Policy is in use by 30 volumes: v0@vsan, v1@vsan,"),
        "{text}"
    );
    assert!(text.contains("v19@vsan and 10 more;"), "{text}");
}

fn word() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_]{1,12}"
}

fn simple() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i32>().prop_map(|n| format!("i{n}")),
        any::<i64>().prop_map(|n| format!("l{n}")),
        "\"[a-zA-Z0-9 _.,:+/()%#@=-]{0,20}\"",
    ]
}

fn expression() -> impl Strategy<Value = String> {
    let list = prop::collection::vec(simple(), 1..5).prop_map(|v| format!("({})", v.join(" ")));
    let value = prop_oneof![simple(), list];
    let entries = prop::collection::btree_map(word(), value, 1..10);
    entries.prop_map(|map| {
        let texts: Vec<String> = map
            .iter()
            .map(|(k, v)| format!("( \"{k}\"\t{v})"))
            .collect();
        format!("({})\n", texts.join("  "))
    })
}

proptest! {
    #[test]
    fn what_is_read_is_written_and_read_again(text in expression()) {
        if let Ok(policy) = parse(&text) {
            let written = policy.to_string();
            prop_assert_eq!(&parse(&written).unwrap(), &policy);
            prop_assert!(!written.contains("  ") || text.contains("  "));
        }
    }

    #[test]
    fn an_expression_of_unknown_keys_is_read(text in expression()) {
        let known = KNOWN.iter().any(|(key, _)| text.contains(&format!("\"{key}\"")));
        prop_assert!(known || parse(&text).is_ok(), "{}", text);
    }

    #[test]
    fn no_text_panics(text in r#"[()"il0-9a-z +\-ż\\'$\n]{0,60}"#, any in ".{0,200}") {
        drop(parse(&text));
        drop(parse(&any));
    }
}
