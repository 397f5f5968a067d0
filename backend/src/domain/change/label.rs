//! Labels that group a user's conversations (MSG-16). A conversation holds numbers, the user's registry
//! their names: so a label is renamed or taken off everywhere at once.

use prost::Message as _;
use protocol::message::{RenameLabel, UpdateConversation, event::What};

use super::Change;
use crate::domain::{
    AppId, Error, UserId,
    act::{Answer, Staging},
    damaged, keys,
    records::{LabelRecord, LabelsRecord},
};

/// Labels of one user, at the most.
pub const LABELS_MAX: usize = 100;
/// Labels of one conversation, at the most.
pub const CONVERSATION_LABELS_MAX: usize = 20;
/// Longest label, in bytes.
pub const LABEL_BYTES_MAX: usize = 32;

pub(super) fn check(put_on: &[String], take_off: &[String]) -> Result<(), Error> {
    if put_on.len().max(take_off.len()) > CONVERSATION_LABELS_MAX {
        return Err(Error::Argument("at most 20 labels are put on or taken off at a time"));
    }
    put_on.iter().chain(take_off).try_for_each(|label| check_name(label))
}

pub(super) fn check_rename(label: &str, to: &str) -> Result<(), Error> {
    check_name(label)?;
    if to.is_empty() { Ok(()) } else { check_name(to) }
}

fn check_name(label: &str) -> Result<(), Error> {
    match (1..=LABEL_BYTES_MAX).contains(&label.len()) {
        true => Ok(()),
        false => Err(Error::Argument("a label must have 1 to 32 bytes")),
    }
}

/// A user's labels.
pub(crate) async fn read(staging: &mut Staging<'_>, app: AppId, user: &UserId) -> Result<LabelsRecord, Error> {
    decode(staging.get(&keys::labels(app, user)).await?)
}

pub(crate) fn decode(stored: Option<bytes::Bytes>) -> Result<LabelsRecord, Error> {
    stored.map_or_else(
        || Ok(LabelsRecord::default()),
        |stored| LabelsRecord::decode(stored).map_err(|_| damaged("labels")),
    )
}

/// Names of a conversation's labels.
pub(crate) fn names(labels: &LabelsRecord, numbers: &[u32]) -> Vec<String> {
    let name =
        |number: &u32| labels.labels.iter().find(|label| label.number == *number).map(|label| label.name.clone());
    numbers.iter().filter_map(name).collect()
}

/// Puts labels on a conversation and takes labels off; new ones are entered into the registry.
pub(super) fn apply(
    labels: &mut LabelsRecord,
    numbers: &mut Vec<u32>,
    update: &UpdateConversation,
) -> Result<(), Error> {
    if update.label.is_empty() && update.unlabel.is_empty() {
        return Ok(());
    }
    let number_of = |labels: &LabelsRecord, name: &String| {
        labels.labels.iter().find(|label| label.name == *name).map(|label| label.number)
    };
    // Those that were taken off everywhere are forgotten here.
    numbers.retain(|number| labels.labels.iter().any(|label| label.number == *number));
    for name in &update.unlabel {
        let gone = number_of(labels, name);
        numbers.retain(|number| Some(*number) != gone);
    }
    for name in &update.label {
        let number = match number_of(labels, name) {
            Some(number) => number,
            None => {
                if labels.labels.len() >= LABELS_MAX {
                    return Err(Error::ListFull("a user has at most 100 labels"));
                }
                labels.last_number += 1;
                labels.labels.push(LabelRecord { number: labels.last_number, name: name.clone() });
                labels.last_number
            }
        };
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    match numbers.len() > CONVERSATION_LABELS_MAX {
        true => Err(Error::ListFull("a conversation has at most 20 labels")),
        false => Ok(()),
    }
}

/// Renames a label on all conversations, or takes it off all.
pub(super) async fn rename(staging: &mut Staging<'_>, change: &Change, label: &str, to: &str) -> Result<Answer, Error> {
    let (app, user) = (change.app, &change.user);
    let mut labels = read(staging, app, user).await?;
    let index = labels.labels.iter().position(|known| known.name == label);
    let is_taken = label != to && labels.labels.iter().any(|known| known.name == to);
    match index {
        None if staging.again => {}
        None => return Err(Error::Argument("no conversation has this label")),
        Some(_) if is_taken => return Err(Error::Argument("there is a label of the new name already")),
        Some(index) if to.is_empty() => {
            labels.labels.remove(index);
        }
        Some(index) => {
            if let Some(known) = labels.labels.get_mut(index) {
                known.name = to.to_owned();
            }
        }
    }
    staging.set(keys::labels(app, user), labels.encode_to_vec());
    staging.append_stored(app, user, &What::Label(RenameLabel { label: label.to_owned(), to: to.to_owned() }));
    Ok(Answer::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(label: &[&str], unlabel: &[&str]) -> UpdateConversation {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        UpdateConversation { label: names(label), unlabel: names(unlabel), ..UpdateConversation::default() }
    }

    #[test]
    fn labels_are_numbered_once_and_forgotten_where_they_are_gone() {
        let (mut labels, mut numbers) = (LabelsRecord::default(), Vec::new());
        apply(&mut labels, &mut numbers, &update(&["work", "home", "work"], &[])).unwrap();
        assert_eq!(names(&labels, &numbers), ["work", "home"]);
        apply(&mut labels, &mut numbers, &update(&["fun"], &["work", "unknown"])).unwrap();
        assert_eq!(names(&labels, &numbers), ["home", "fun"]);
        labels.labels.retain(|label| label.name != "home");
        assert_eq!(names(&labels, &numbers), ["fun"], "taken off everywhere");
        apply(&mut labels, &mut numbers, &update(&["home"], &[])).unwrap();
        assert_eq!(numbers, [3, 4], "a number is never given again");
    }

    #[test]
    fn a_conversation_has_twenty_labels_and_a_user_a_hundred() {
        let (mut labels, mut numbers) = (LabelsRecord::default(), Vec::new());
        for n in 0..CONVERSATION_LABELS_MAX {
            apply(&mut labels, &mut numbers, &update(&[&n.to_string()], &[])).unwrap();
        }
        let full = apply(&mut labels, &mut numbers.clone(), &update(&["one more"], &[]));
        assert!(matches!(full, Err(Error::ListFull(_))));
        for n in labels.labels.len()..LABELS_MAX {
            apply(&mut labels, &mut Vec::new(), &update(&[&n.to_string()], &[])).unwrap();
        }
        let full = apply(&mut labels, &mut Vec::new(), &update(&["yet one more"], &[]));
        assert!(matches!(full, Err(Error::ListFull(_))));
    }
}
