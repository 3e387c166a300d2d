//! Reader and writer, against each other and against what peers send.

use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::{Element, Limits, ParseError, Unwritable, Writer, parse};

const SMALL: Limits = Limits {
    bytes: 4096,
    depth: 4,
    elements: 8,
    text: 16,
};

fn read(text: &str) -> Element {
    parse(text.as_bytes(), &Limits::ANSWER).expect(text)
}

fn refused(text: &str) -> ParseError {
    parse(text.as_bytes(), &SMALL).expect_err(text)
}

#[test]
fn names_lose_their_prefixes_and_types_are_kept() {
    for document in [
        r#"<a xsi:type="xsd:string">x</a>"#,
        r#"<n:a xmlns:n="urn:n" XMLSchema-instance:type="string">x</n:a>"#,
    ] {
        let a = read(document);
        assert_eq!(
            (a.name(), a.xsi_type(), a.text()),
            ("a", Some("string"), "x")
        );
        assert_eq!(a.object_type(), None);
    }
    let reference = read(r#"<obj type="VirtualMachine" xsi:type="ManagedObjectReference">7</obj>"#);
    let reference = reference.moref().expect("it is one");
    assert_eq!(
        (reference.kind(), reference.value()),
        ("VirtualMachine", "7")
    );
}

#[test]
fn texts_are_what_the_sender_meant() {
    for (sent, meant) in [
        ("a&lt;b&gt;&amp;&quot;&apos;", "a<b>&\"'"),
        ("&#65;&#x1F600;&#13;", "A\u{1F600}\r"),
        ("<![CDATA[<&]]>]]&gt;", "<&]]>"),
        ("a<!-- not this -->b<?nor this?>", "ab"),
        ("1\r\n2\r3\n", "1\n2\n3\n"),
        // No XML 1.0, but a guest's own name for itself may have it, and a VM is not lost for it.
        ("bell&#7;", "bell\u{7}"),
        ("", ""),
    ] {
        assert_eq!(read(&format!("<a>{sent}</a>")).text(), meant, "{sent}");
    }
    assert_eq!(
        read("<a>\n  <b>1</b>\n</a>").text(),
        "",
        "blanks between children are nothing"
    );
}

#[test]
fn empty_and_unknown_values_are_values() {
    let runtime =
        read("<r><faultToleranceState></faultToleranceState><x/><power>tomorrow</power></r>");
    assert_eq!(runtime.text_of("faultToleranceState"), Some(""));
    assert_eq!(runtime.text_of("x"), Some(""));
    assert_eq!(runtime.some_text_of("x"), None);
    assert_eq!(runtime.text_of("power"), Some("tomorrow"));
    assert_eq!(runtime.flag_of("power"), None);
    assert_eq!(runtime.number_of::<i32>("power"), None);
}

#[test]
fn nothing_grows_beyond_the_limits() {
    assert_eq!(
        refused("<a><a><a><a><a/></a></a></a></a>"),
        ParseError::Limit("depth")
    );
    assert_eq!(
        refused("<a><b/><b/><b/><b/><b/><b/><b/><b/></a>"),
        ParseError::Limit("elements")
    );
    assert_eq!(
        refused("<a>0123456789&amp;<![CDATA[0123456789]]></a>"),
        ParseError::Limit("text")
    );
    let long = format!("<a>{}</a>", " ".repeat(5000));
    assert_eq!(refused(&long), ParseError::Limit("bytes"));
    let name = "n".repeat(300);
    assert_eq!(refused(&format!("<{name}/>")), ParseError::Limit("name"));
    let many: String = (0..40).map(|n| format!(" a{n}=''")).collect();
    assert_eq!(
        refused(&format!("<a{many}/>")),
        ParseError::Limit("attributes")
    );
}

#[test]
fn no_entity_is_declared_and_none_is_looked_for() {
    let bomb = r#"<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><a>&c;</a>"#;
    assert_eq!(refused(bomb), ParseError::DocumentType);
    let file = r#"<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>"#;
    assert_eq!(refused(file), ParseError::DocumentType);
    assert!(matches!(
        refused("<a>&c;</a>"),
        ParseError::Malformed { .. }
    ));
    assert!(matches!(
        refused(r#"<a type="&c;">1</a>"#),
        ParseError::Malformed { .. }
    ));
}

#[test]
fn what_is_not_one_whole_document_is_refused() {
    for broken in [
        "",
        " ",
        "text",
        "<a>",
        "<a><b></a>",
        "</a>",
        "<a/><b/>",
        "<a/>x",
        "<a/",
        "<a>&#xD800;</a>",
    ] {
        assert!(parse(broken.as_bytes(), &SMALL).is_err(), "{broken}");
    }
    assert!(parse(b"<a>\xff</a>", &SMALL).is_err(), "it is no UTF-8");
    let with_mark = "\u{feff}<?xml version=\"1.0\"?>\n<a/>\n";
    assert!(parse(with_mark.as_bytes(), &SMALL).is_ok());
}

#[test]
fn an_argument_with_a_character_xml_does_not_have_is_refused_and_not_dropped() {
    let mut w = Writer::new();
    w.text("name", "a\u{1}b").text("next", "\u{2}");
    let first = Unwritable::Character {
        field: "name".to_owned(),
        code: 1,
    };
    assert_eq!(w.finish(), Err(first));
    let mut w = Writer::new();
    w.text("name", &"x".repeat(70_000));
    assert!(matches!(w.finish(), Err(Unwritable::TooLong { .. })));
}

proptest! {
    #[test]
    fn every_text_comes_back_as_it_was_or_is_refused(text in any::<String>()) {
        let mut w = Writer::new();
        w.element("a", |w| { w.any("b", "xsd:string", &text); });
        match w.finish() {
            Ok(written) => {
                prop_assert!(!written.contains("]]>"));
                let again = read(&written);
                prop_assert_eq!(again.text_of("b"), Some(text.as_str()));
            }
            Err(_) => prop_assert!(text.chars().any(|c| !super::writer::is_xml(c))),
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>()) {
        if let Ok(element) = parse(&bytes, &SMALL) {
            prop_assert!(element.text().len() <= SMALL.text);
        }
    }
}
