//! Values with names, `{Tag, Value}`: how fields of profiles and friends are written.

use backend::domain::profile::{self, Field};
use bytes::Bytes;
use protocol::message::Profile;
use serde_json::{Value, json};

use super::fields::{Fields, Wrong};

/// A value with its name, as it is told.
pub fn item(tag: &str, value: impl Into<Value>) -> Value {
    json!({ "Tag": tag, "Value": value.into() })
}

/// Names and values that a list of objects gives; `None`: there is no list.
pub fn read<'a>(fields: Fields<'a>, field: &'static str) -> Result<Option<Vec<(&'a str, &'a Value)>>, Wrong> {
    let Some(list) = fields.list(field)? else { return Ok(None) };
    let pair = |item: &'a Value| {
        let item = Fields::of(item)?;
        Some((item.text("Tag").ok()??, item.get("Value")?))
    };
    let pairs: Option<Vec<_>> = list.iter().map(pair).collect();
    pairs.map(Some).ok_or(Wrong { field, expected: "an array of objects with Tag and Value" })
}

/// The value of a custom field; a whole number becomes its digits. `None`: it is neither that nor a text.
pub fn custom_bytes(value: &Value) -> Option<Bytes> {
    match value {
        Value::String(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
        Value::Number(number) if !number.is_f64() => Some(number.to_string().into()),
        _ => None,
    }
}

/// The value of a custom field, as it is told.
pub fn custom_text(value: &Bytes) -> Value {
    String::from_utf8_lossy(value).into()
}

/// Those fields of a profile that are asked for, in that order; a custom field that is not set is left out.
pub fn of_profile<'a>(profile: &Profile, tags: impl IntoIterator<Item = &'a str>) -> Vec<Value> {
    let told = |tag: &'a str| {
        let value = match Field::of_tag(tag) {
            Some(field) => match field.value(profile) {
                profile::Value::Number(number) => number.into(),
                profile::Value::Text(text) => text.into(),
            },
            None => custom_text(profile.custom.get(tag)?),
        };
        Some(item(tag, value))
    };
    tags.into_iter().filter_map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_whole_or_not_at_all() {
        let body = json!({ "a": [{ "Tag": "x", "Value": 1 }], "b": [{ "Tag": "x" }], "c": [{ "Tag": 1, "Value": 1 }] });
        let fields = Fields::of(&body).unwrap();
        assert_eq!(read(fields, "a"), Ok(Some(vec![("x", &json!(1))])));
        assert_eq!(read(fields, "nothing"), Ok(None));
        assert!(read(fields, "b").is_err() && read(fields, "c").is_err());
    }

    #[test]
    fn custom_values_are_texts_or_whole_numbers() {
        assert_eq!(custom_bytes(&json!("é")), Some("é".into()));
        assert_eq!(custom_bytes(&json!(-7)), Some("-7".into()));
        for wrong in [json!(1.5), json!([]), json!(true)] {
            assert_eq!(custom_bytes(&wrong), None);
        }
        assert_eq!(custom_text(&Bytes::from_static(b"\xff")), json!("\u{fffd}"));
    }
}
