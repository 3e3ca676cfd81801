//! Mappings whose `type` decides about their other fields.

use super::{Fields, known_word};
use crate::module::table::{Absence, Field, Form, Tagged};
use crate::module::yaml::{Node, Value};

/// The field that selects the variant.
const TAG: &str = "type";

impl<'n> Fields<'n, '_> {
    /// The variant of a mapping with a `type`, and its fields. An absent mapping reads as the
    /// default variant without fields.
    pub(crate) fn tagged(&mut self, name: &str) -> (&'static str, Fields<'n, '_>) {
        let field = self.declared(name);
        let Form::Tagged(tagged) = field.form else {
            panic!("'{name}' is not declared as a mapping with a type");
        };
        match (self.raw(name), field.absence) {
            (Some(node), _) => self.tagged_of(name, node, tagged),
            (None, Absence::Default(word)) => {
                let variant = tagged.variant(word).expect("a default is one of the words");
                (word, self.absent(name, variant.fields))
            }
            (None, _) => (tagged.variants[0].word, self.absent(name, &[])),
        }
    }

    fn tagged_of(
        &mut self,
        name: &str,
        node: &'n Node,
        tagged: &'static Tagged,
    ) -> (&'static str, Fields<'n, '_>) {
        if let Value::Text(word) = &node.value
            && let Some(variant) = tagged.variant(word)
        {
            let word = variant.word;
            let message = format!("must be a mapping, not a text: write {{type: {word}}}");
            self.problem_with(name, message);
            return (word, self.unreadable(name, variant.fields));
        }
        let mut fields = Fields::unchecked(self.reading, node, name, &[]);
        let variant = match (fields.find(TAG), tagged.untagged) {
            (None, Some(word)) => tagged.variant(word),
            (None, None) => {
                if fields.entries.is_some() {
                    let message = format!("{name} needs the field '{TAG}'");
                    fields.problem(node.line, message);
                }
                None
            }
            (tag, _) => fields
                .parse_of(TAG, tag, |text| known_word(text, tagged.words()))
                .and_then(|word| tagged.variant(word)),
        };
        let Some(variant) = variant else {
            // The known fields depend on the type, so none of them is checked.
            fields.entries = None;
            fields.table = tagged.variants[0].fields;
            return (tagged.variants[0].word, fields);
        };
        fields.table = variant.fields;
        let names = variant.fields.iter().map(|field| field.name);
        fields.check_known(&[TAG].into_iter().chain(names));
        (variant.word, fields)
    }

    /// A mapping that is reported already, so that nothing in it counts as missing.
    fn unreadable(&mut self, name: &str, table: &'static [Field]) -> Fields<'n, '_> {
        Fields {
            what: name.to_owned(),
            line: self.line,
            table,
            entries: None,
            reading: self.reading,
        }
    }
}
