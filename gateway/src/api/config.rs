//! `openconfigsvr`, `ConfigSvc`: muting users, figures, addresses.

use std::collections::BTreeMap;

use backend::domain::{
    UserId, admin,
    figures::{self, Figure},
    groups::listing,
    mute,
};
use serde_json::{Value, json};

use super::{
    answers::{ensure_account, nothing, object},
    beijing,
    call::Call,
    codes::{self, Failure, of_config},
    fields::Fields,
    table::Outcome,
};

const DAY_S: u64 = 86_400;

/// Mutes a user, or lets the user write again.
pub async fn set_no_speaking(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let user = account(call, fields, "Set_Account").await?;
    let seconds = |field| fields.number_u32(field).map_err(|wrong| codes::MUTE_TIME_INVALID.because(wrong));
    let (one_to_one_s, groups_s) = (seconds("C2CmsgNospeakingTime")?, seconds("GroupmsgNospeakingTime")?);
    if one_to_one_s.is_none() && groups_s.is_none() {
        return Err(codes::MUTE_TIME_MISSING.into());
    }
    let shared = call.shared();
    let set = mute::set(&shared.store, &shared.clock, call.app, &user, one_to_one_s, groups_s).await;
    set.map_err(|error| of_config(&error))?;
    nothing()
}

/// Says for how long a user is muted.
pub async fn no_speaking(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let user = account(call, fields, "Get_Account").await?;
    let shared = call.shared();
    let mute = mute::get(&shared.store, &shared.clock, call.app, &user).await.map_err(|error| of_config(&error))?;
    object(json!({ "C2CmsgNospeakingTime": mute.one_to_one_s, "GroupmsgNospeakingTime": mute.groups_s }))
}

async fn account(call: &Call<'_>, fields: Fields<'_>, field: &'static str) -> Result<UserId, Failure> {
    let name = fields.text(field).map_err(|wrong| codes::SET_ACCOUNT_INVALID.because(wrong))?;
    let name = name.ok_or(codes::SET_ACCOUNT_MISSING)?;
    let user = UserId::new(name).ok_or(codes::SET_ACCOUNT_INVALID)?;
    ensure_account(call, &user, codes::SET_ACCOUNT_INVALID, of_config).await?;
    Ok(user)
}

/// Figures of the last days, newest day first. Fields whose figures are not kept are left out.
pub async fn app_info(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let wanted = fields.texts("RequestField").map_err(|wrong| codes::CONFIG_NOT_OBJECT.because(wrong))?;
    let wanted = wanted.filter(|wanted| !wanted.is_empty());
    let shared = call.shared();
    let days_max = call.row.items_max as u64;
    let today = figures::day(shared.clock.unix_ms());
    let oldest = today.saturating_sub(days_max - 1);
    let (mut before, mut by_day) = (0u64, BTreeMap::<u64, u64>::new());
    let mut count = |created_ms: u64| match figures::day(created_ms) {
        day if day < oldest => before += 1,
        day => *by_day.entry(day).or_default() += 1,
    };
    admin::each_account(&shared.store, call.app, &mut count).await.map_err(|error| of_config(&error))?;
    let counted = figures::all(&shared.store, call.app).await.map_err(|error| of_config(&error))?;
    let groups = listing::page(&shared.store, call.app, None, 0, 1).await.map_err(|error| of_config(&error))?.total;
    // From today back to the day after: what has come and gone since.
    let of_day = |day: u64, figure: Figure| {
        let found = counted.get(&day).and_then(|day| day.iter().find(|(number, _)| *number == figure as u32));
        found.map_or(0, |(_, times)| *times)
    };
    let groups_on = |day: u64| {
        let since = |figure| (day + 1..=today).map(|later| of_day(later, figure)).sum::<u64>();
        (groups + since(Figure::GroupsDissolved)).saturating_sub(since(Figure::GroupsMade))
    };
    let mut total = before;
    let mut days: Vec<Value> = (oldest..=today)
        .map(|day| {
            let registered = by_day.get(&day).copied().unwrap_or(0);
            total += registered;
            let count = |figure| of_day(day, figure);
            let times = |figure: Figure| count(figure).to_string();
            let messages = count(Figure::Messages) + count(Figure::GroupMessages);
            let mut figures = json!({
                "AppId": call.app.to_string(), "Date": beijing::day(day * DAY_S), "RegistUserNumOneDay": registered.to_string(),
                "RegistUserNumTotal": total.to_string(), "LoginTimes": times(Figure::Logins), "UpMsgNum": messages.to_string(),
                "C2CUpMsgNum": times(Figure::Messages), "GroupUpMsgNum": times(Figure::GroupMessages),
                "GroupNewGroupNum": times(Figure::GroupsMade), "GroupDestroyGroupNum": times(Figure::GroupsDissolved),
                "GroupAllGroupNum": groups_on(day).to_string(), "GroupJoinGroupTimes": times(Figure::GroupsJoined),
                "GroupQuitGroupTimes": times(Figure::GroupsLeft),
                "CallBackReq": times(Figure::CallbackRequests),
                "CallBackRsp": times(Figure::CallbackAnswers),
            });
            if let (Some(wanted), Some(figures)) = (&wanted, figures.as_object_mut()) {
                figures.retain(|name, _| name == "Date" || wanted.contains(&name.as_str()));
            }
            figures
        })
        .collect();
    days.reverse();
    object(json!({ "Result": days }))
}

/// Says which address this server has.
pub async fn ip_list(call: &Call<'_>, _: Fields<'_>) -> Outcome {
    object(json!({ "IPList": [call.ends.local.ip().to_string()] }))
}
