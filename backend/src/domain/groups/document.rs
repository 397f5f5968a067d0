//! The table of groups in words, as GROUPS.md has it: each cell is made from [`super::table`].

use std::fmt::Write as _;

use protocol::message::GroupJoinOption;

use super::table::{Rules, TABLE, Who};
use crate::domain::settings::{GROUP_MEMBERS_MAX, Settings};

/// What a limit of members is commonly raised to; a setting allows any number up to the last.
const MEMBERS_RAISED: [u32; 2] = [2_000, GROUP_MEMBERS_MAX];

type Cell = fn(&Rules) -> String;

/// The rows: what each is about, and how a type's cell reads.
const ROWS: [(&str, &str, Cell); 19] = [
    ("GRP-01", "member limit (default; raised by configuration to)", members),
    ("GRP-02", "who edits the group's information", |rules| who(rules.edits)),
    ("GRP-03", "member list", |rules| rules.members_shown.map_or("all".into(), |count| format!("{count} shown"))),
    ("GRP-04", "who dissolves it", |rules| who(rules.dissolves)),
    ("GRP-05", "apply to join", |rules| yes(rules.join != GroupJoinOption::Forbidden)),
    ("GRP-06", "approval of an application", approval),
    ("GRP-07", "invite others", |rules| either(rules.invites, "yes, the invited need not agree", "no")),
    ("GRP-08", "owner may leave", |rules| yes(rules.owner_leaves)),
    ("GRP-09", "administrators", |rules| yes(rules.has_admins)),
    ("GRP-10", "who removes members", |rules| who(rules.removes)),
    ("GRP-11", "new members see earlier history", |rules| yes(rules.shows_earlier)),
    ("GRP-12", "notice of member changes", |rules| either(rules.tells_member_changes, "everyone", "none")),
    ("GRP-13", "activation", |rules| either(rules.is_active_at_once, "at once", "active once a message is sent")),
    ("GRP-14", "mute a member", |rules| yes(rules.mutes)),
    ("GRP-15", "unread count", |rules| yes(rules.counts_unread)),
    ("GRP-16", "guests (not signed in) may receive", |rules| yes(rules.takes_guests)),
    ("GRP-17", "history kept", |rules| yes(rules.keeps_history)),
    ("GRP-18", "default receive option", |rules| {
        either(rules.pushes_offline, "online and offline push", "online only")
    }),
    ("GRP-19", "import a group with its members and messages", |rules| yes(rules.is_imported)),
];

/// The table in Markdown.
pub fn table() -> String {
    let mut text = String::from("| id | |");
    TABLE.iter().for_each(|rules| push(&mut text, &title(rules)));
    text.push_str("\n| --- | --- | --- | --- | --- | --- |\n");
    for (id, what, cell) in ROWS {
        let _ = write!(text, "| {id} | {what} |");
        TABLE.iter().for_each(|rules| push(&mut text, &cell(rules)));
        text.push('\n');
    }
    text
}

fn push(text: &mut String, cell: &str) {
    let _ = write!(text, " {cell} |");
}

fn title(rules: &Rules) -> String {
    format!("{}{}", rules.name, if rules.is_room() { " (live broadcast)" } else { "" })
}

fn either(is_so: bool, so: &str, otherwise: &str) -> String {
    if is_so { so.into() } else { otherwise.into() }
}

fn yes(is_so: bool) -> String {
    either(is_so, "yes", "no")
}

fn members(rules: &Rules) -> String {
    let [raised, most] = MEMBERS_RAISED;
    let default = rules.members_max(&Settings::default(), 0);
    default.map_or("unlimited".into(), |default| format!("{default} ({raised}, {most})"))
}

fn approval(rules: &Rules) -> String {
    let needed = match rules.join {
        GroupJoinOption::Forbidden => "–",
        GroupJoinOption::Approval => "needed (owner or admin)",
        _ => "not needed",
    };
    needed.into()
}

fn who(who: Who) -> String {
    let named = [(who.owner, "owner"), (who.admin, "admin"), (who.member, "member"), (who.app_admin, "app admin")];
    let named: Vec<_> = named.into_iter().filter_map(|(is_among, name)| is_among.then_some(name)).collect();
    match named[..] {
        [] => "nobody".into(),
        _ if who.member => "any member".into(),
        _ => named.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a type allows is written in one place, read in another: they say the same, cell by cell.
    #[test]
    fn grp_01_to_grp_19_the_document_says_what_the_code_does() {
        let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        let document = include_str!("../../../../GROUPS.md");
        let (_, behind) = document.split_once("<!-- table: types -->\n").expect("the table's marker");
        let written: Vec<_> = behind.lines().take_while(|line| line.starts_with('|')).map(cells).collect();
        let printed: Vec<_> = table().lines().map(cells).collect();
        for (written, printed) in written.iter().zip(&printed) {
            assert_eq!(written, printed, "GROUPS.md and backend/src/domain/groups/table.rs differ");
        }
        assert_eq!(written.len(), printed.len());
    }
}
