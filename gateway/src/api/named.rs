//! Accounts that one call names, each of which has a result of its own.

use backend::domain::UserId;
use serde_json::{Map, Value, json};

use super::codes::{Code, Failure};

/// The names, in their order, and which of them may be accounts at all.
pub struct Named<'a>(Vec<(&'a str, bool)>);

impl<'a> Named<'a> {
    /// With the accounts that are named.
    pub fn of(names: &[&'a str]) -> (Self, Vec<UserId>) {
        let (named, users) = Self::with(names.iter().map(|name| (*name, ())));
        (named, users.into_iter().map(|(user, ())| user).collect())
    }

    /// With the accounts that are named, and what is said of each.
    pub fn with<T>(said: impl IntoIterator<Item = (&'a str, T)>) -> (Self, Vec<(UserId, T)>) {
        let (mut names, mut users) = (Vec::new(), Vec::new());
        for (name, what) in said {
            let user = UserId::new(name);
            names.push((name, user.is_some()));
            users.extend(user.map(|user| (user, what)));
        }
        (Named(names), users)
    }

    /// The answer: in `list` an item for each name, with what there is to say of it, or else with what is in `blank`;
    /// and who failed. `outcomes` are those of the accounts, `unknown` is that of other names.
    pub fn answer(
        self,
        list: &str,
        outcomes: impl IntoIterator<Item = Result<Value, Failure>>,
        blank: &Value,
        unknown: Code,
    ) -> Map<String, Value> {
        let (mut items, mut failed, mut invalid) = (Vec::new(), Vec::new(), Vec::new());
        let mut outcomes = outcomes.into_iter();
        for (name, is_account) in self.0 {
            let outcome = if is_account { outcomes.next() } else { None };
            let outcome = outcome.unwrap_or_else(|| Err(unknown.into()));
            let (mut item, code, info) = match outcome {
                Ok(item) => (item, 0, String::new()),
                Err(Failure { code, info }) => (blank.clone(), code, info),
            };
            item["To_Account"] = name.into();
            item["ResultCode"] = code.into();
            item["ResultInfo"] = info.into();
            items.push(item);
            if code != 0 {
                failed.push(name);
            }
            if !is_account {
                invalid.push(name);
            }
        }
        let mut answer = Map::from_iter([(list.to_owned(), Value::from(items))]);
        for (field, names) in [("Fail_Account", failed), ("Invalid_Account", invalid)] {
            if !names.is_empty() {
                answer.insert(field.to_owned(), json!(names));
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_own_result_in_its_place() {
        const UNKNOWN: Code = Code(3, "nobody");
        let (named, users) = Named::of(&["anna", "ä", "ben", ""]);
        assert_eq!(users, ["anna", "ben"].map(|name| UserId::new(name).unwrap()));
        let outcomes = [Ok(json!({ "More": 1 })), Err(Code(7, "no").into())];
        let answer = named.answer("Items", outcomes, &json!({ "More": 0 }), UNKNOWN);
        let result = |name: &str, more: u32, code: u32, info: &str| json!({ "To_Account": name, "More": more, "ResultCode": code, "ResultInfo": info });
        let expected = json!({
            "Items": [result("anna", 1, 0, ""), result("ä", 0, 3, "nobody"), result("ben", 0, 7, "no"), result("", 0, 3, "nobody")],
            "Fail_Account": ["ä", "ben", ""], "Invalid_Account": ["ä", ""],
        });
        assert_eq!(Value::Object(answer), expected);
        let (named, _) = Named::of(&["anna"]);
        let answer = named.answer("Items", [Ok(json!({}))], &json!({}), UNKNOWN);
        assert_eq!(answer.keys().collect::<Vec<_>>(), ["Items"]);
    }
}
