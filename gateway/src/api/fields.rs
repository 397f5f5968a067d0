//! Reading JSON as the published API takes it: unknown fields are ignored, `null` is an absent field, a whole
//! number may be written as a string; anything else of a wrong type is named.

use std::fmt;

use serde_json::{Map, Value};

/// A field that is missing or not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Its name.
    pub field: &'static str,
    /// What it should be.
    pub expected: &'static str,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must be {}", self.field, self.expected)
    }
}

/// The fields of an object.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// The fields of `value`; `None` if it is no object.
    pub fn of(value: &'a Value) -> Option<Self> {
        value.as_object().map(Fields)
    }

    /// Whether the field is there.
    pub fn has(self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A string.
    pub fn text(self, field: &'static str) -> Result<Option<&'a str>, Wrong> {
        self.read(field, "a string", Value::as_str)
    }

    /// A string that must be there.
    pub fn required_text(self, field: &'static str) -> Result<&'a str, Wrong> {
        self.text(field)?.ok_or(Wrong { field, expected: "a string" })
    }

    /// A whole number from 0 up.
    pub fn number(self, field: &'static str) -> Result<Option<u64>, Wrong> {
        self.read(field, "a whole number", whole)
    }

    /// The same up to what 32 bits hold.
    pub fn number_u32(self, field: &'static str) -> Result<Option<u32>, Wrong> {
        let to_u32 = |value: &Value| whole(value).and_then(|number| u32::try_from(number).ok());
        self.read(field, "a whole number of 32 bits", to_u32)
    }

    /// A whole number of 32 bits with its sign.
    pub fn number_i32(self, field: &'static str) -> Result<Option<i32>, Wrong> {
        let to_i32 = |value: &Value| match value {
            Value::String(digits) => digits.parse().ok(),
            value => value.as_i64().and_then(|number| i32::try_from(number).ok()),
        };
        self.read(field, "a whole number of 32 bits", to_i32)
    }

    /// A whole number of 64 bits with its sign.
    pub fn number_i64(self, field: &'static str) -> Result<Option<i64>, Wrong> {
        let to_i64 = |value: &Value| match value {
            Value::String(digits) => digits.parse().ok(),
            value => value.as_i64(),
        };
        self.read(field, "a whole number of 64 bits", to_i64)
    }

    /// Any number.
    pub fn decimal(self, field: &'static str) -> Result<Option<f64>, Wrong> {
        let to_f64 = |value: &Value| match value {
            Value::String(digits) => digits.parse().ok().filter(|number: &f64| number.is_finite()),
            value => value.as_f64(),
        };
        self.read(field, "a number", to_f64)
    }

    /// A switch: 0 or 1, or a boolean.
    pub fn flag(self, field: &'static str) -> Result<bool, Wrong> {
        let to_bool = |value: &Value| value.as_bool().or_else(|| whole(value).map(|number| number != 0));
        Ok(self.read(field, "0 or 1", to_bool)?.unwrap_or(false))
    }

    /// An array.
    pub fn list(self, field: &'static str) -> Result<Option<&'a [Value]>, Wrong> {
        self.read(field, "an array", |value| value.as_array().map(Vec::as_slice))
    }

    /// An array of strings.
    pub fn texts(self, field: &'static str) -> Result<Option<Vec<&'a str>>, Wrong> {
        let Some(list) = self.list(field)? else { return Ok(None) };
        let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
        texts.map(Some).ok_or(Wrong { field, expected: "an array of strings" })
    }

    /// An object.
    pub fn object(self, field: &'static str) -> Result<Option<Fields<'a>>, Wrong> {
        self.read(field, "an object", Fields::of)
    }

    /// All of them.
    pub fn all(self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.0.iter()
    }

    /// The field as it is.
    pub fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn read<T>(
        self,
        field: &'static str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Wrong> {
        match self.get(field) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or(Wrong { field, expected }),
        }
    }
}

/// A whole number, perhaps written as a string.
fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::String(digits) => digits.parse().ok(),
        value => value.as_u64(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_may_be_strings_and_what_is_wrong_is_named() {
        let value = json!({ "a": 7, "b": "7", "c": "x", "d": -1, "e": null, "f": [1], "g": 1.5, "h": ["x", 1] });
        let fields = Fields::of(&value).unwrap();
        assert_eq!((fields.number("a"), fields.number("b")), (Ok(Some(7)), Ok(Some(7))));
        assert_eq!(fields.number("c"), Err(Wrong { field: "c", expected: "a whole number" }));
        assert!(fields.number("d").is_err() && fields.number("f").is_err() && fields.number("g").is_err());
        assert_eq!(fields.number_i32("d"), Ok(Some(-1)));
        assert_eq!((fields.number("e"), fields.number("nothing")), (Ok(None), Ok(None)));
        assert_eq!(fields.decimal("g"), Ok(Some(1.5)));
        assert!(fields.text("a").is_err() && fields.texts("h").is_err() && fields.required_text("e").is_err());
        assert_eq!((fields.flag("a"), fields.flag("nothing")), (Ok(true), Ok(false)));
        assert!(Fields::of(&json!([])).is_none());
    }
}
