//! What fuzzers check of this crate (`docs/fuzzing.md`). Panics when a promise does not hold.

use crate::soap::{Versions, read};
use crate::xml::{Element, Limits, Writer, parse};
use crate::{Datastore, Hardware, MoRef, Properties, SearchResult, TaskResult, VmSummary};

/// Answers of hostd: within the limits; written again they read the same; no reader of them panics.
pub fn soap_answers(bytes: &[u8]) {
    let limits = Limits {
        bytes: 64 * 1024,
        depth: 24,
        elements: 1000,
        text: 8 * 1024,
    };
    if let Ok(document) = parse(bytes, &limits) {
        let mut elements = 0;
        bounded(&document, 1, &limits, &mut elements);
        assert!(elements <= limits.elements);
        survives(&document);
        Versions::read(&document);
    }
    match read("RetrievePropertiesEx", bytes) {
        Ok(answer) => everyone_reads(answer.element),
        Err(why) => assert!(why.to_string().len() < 64 * 1024, "a refusal is short"),
    }
}

fn bounded(element: &Element, depth: usize, limits: &Limits, elements: &mut usize) {
    *elements += 1;
    assert!(depth <= limits.depth);
    assert!(element.text().len() <= limits.text);
    assert!(element.children().is_empty() || element.text().is_empty());
    for child in element.children() {
        bounded(child, depth + 1, limits, elements);
    }
}

/// Texts come through the writer and back, or the writer refuses them.
fn survives(element: &Element) {
    let mut w = Writer::new();
    w.text("text", element.text());
    if let Ok(written) = w.finish() {
        let again = parse(written.as_bytes(), &Limits::ANSWER).expect("the writer writes XML");
        assert_eq!(again.text(), element.text());
    }
    for child in element.children() {
        survives(child);
    }
}

/// Everything that is read from properties, whatever they are.
fn everyone_reads(answer: Element) {
    let object = MoRef::new("Any", "any");
    for content in answer.all("returnval").flat_map(|r| r.all("objects")) {
        let properties = Properties::read(content);
        drop(VmSummary::read(&object, &properties));
        drop(Datastore::read(&object, &properties));
        if let Some(hardware) = Hardware::read(&properties) {
            for controller in hardware.controllers() {
                drop(hardware.units_taken(controller));
            }
        }
    }
    drop(SearchResult::read_all(&TaskResult {
        value: Some(answer),
    }));
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_answer_is_refused_or_read_within_the_limits() {
        vdvs_corpus::check("soap_answers", super::soap_answers);
    }
}
