//! Each term of the score, and what holds whatever the terms are.

use proptest::prelude::*;

use super::{super::measured::Measure, *};

const FRANKFURT: Place = Place::at(50.11, 8.68);
const PARIS: Place = Place::at(48.86, 2.35);
const TOKYO: Place = Place::at(35.68, 139.69);
const WELL: Status = Status { healthy: true, load: None };

fn point(id: &str, place: Place) -> AccessPoint {
    let (addresses, region) = (vec![format!("{id}.example.com:443")], "germany".to_owned());
    AccessPoint { id: id.to_owned(), addresses, region, place, weight: 100, capacity: 0, drained: false }
}

fn points(places: &[(&str, Place)]) -> Vec<AccessPoint> {
    places.iter().map(|(id, place)| point(id, *place)).collect()
}

fn candidates(points: &[AccessPoint]) -> Vec<Candidate<'_>> {
    let candidate = |point| Candidate { point, status: WELL, measures: Measures::default() };
    points.iter().map(candidate).collect()
}

fn asker(place: Option<Place>) -> Asker<'static> {
    Asker { place, current: "", draw: 1 }
}

fn measured(value: f64, votes: f64) -> Option<Measure> {
    Some(Measure { votes, value })
}

fn load(sessions: u64) -> Status {
    Status { healthy: true, load: Some((sessions, 100)) }
}

fn told<'a>(scored: &[Scored<'a>]) -> Vec<&'a str> {
    scored.iter().filter(|one| one.told).map(|one| one.point.id.as_str()).collect()
}

fn first(candidates: &[Candidate<'_>], asker: Asker<'_>) -> String {
    told(&decide(candidates.to_vec(), asker))[0].to_owned()
}

#[test]
fn geo_02_without_measurements_the_nearest_comes_first() {
    let points = points(&[("tokyo", TOKYO), ("paris", PARIS), ("frankfurt", FRANKFURT)]);
    let near_paris = asker(Some(Place::at(49.0, 2.0)));
    assert_eq!(told(&decide(candidates(&points), near_paris)), ["paris", "frankfurt", "tokyo"]);
}

#[test]
fn geo_03_the_narrowest_group_has_the_last_word() {
    let points = points(&[("paris", PARIS), ("frankfurt", FRANKFURT)]);
    let mut candidates = candidates(&points);
    candidates[0].measures = [measured(1.0, 9.0), measured(1.0, 9.0), measured(20.0, 9.0)];
    assert_eq!(first(&candidates, asker(Some(PARIS))), "frankfurt");
    candidates[0].measures = [measured(20.0, 9.0), measured(1.0, 9.0), measured(1.0, 9.0)];
    assert_eq!(first(&candidates, asker(Some(PARIS))), "paris");
    // One vote against the distance is no proof, many are; of a wide group they say less.
    let estimate = |measures| estimate_ms(Some(0.0), &measures);
    assert!(estimate([None, None, measured(600.0, 1.0)]) < 20.0);
    assert!(estimate([None, None, measured(16.0, 12.0)]) > 39.0);
    assert!(estimate([measured(16.0, 12.0), None, None]) < 15.0);
}

#[test]
fn geo_03_without_a_place_measurements_and_weights_decide() {
    let mut points = points(&[("paris", PARIS), ("tokyo", TOKYO)]);
    let mut unknown = candidates(&points);
    assert!(decide(unknown.clone(), asker(None)).iter().all(|one| one.near && one.distance_km.is_none()));
    unknown[1].measures = [None, None, measured(40.0, 1.0)];
    assert_eq!(first(&unknown, asker(None)), "tokyo");
    points[0].weight = 10_000;
    points[1].weight = 1;
    assert_eq!(first(&candidates(&points), asker(None)), "paris");
}

#[test]
fn geo_03_near_equal_ones_share_clients_by_weight_and_free_capacity() {
    let mut points = points(&[("a", PARIS), ("b", PARIS), ("c", PARIS), ("far", TOKYO)]);
    points[1].weight = 200;
    let mut candidates = candidates(&points);
    candidates[2].status = load(50);
    let draws = 20_000;
    let mut firsts = std::collections::BTreeMap::<String, u32>::new();
    for draw in 0..draws {
        *firsts.entry(first(&candidates, Asker { draw, ..asker(Some(PARIS)) })).or_default() += 1;
    }
    let share = |id: &str| f64::from(firsts.get(id).copied().unwrap_or(0)) / draws as f64;
    let scored = decide(candidates, asker(Some(PARIS)));
    for (id, expected) in [("a", 100.0 / 350.0), ("b", 200.0 / 350.0), ("c", 50.0 / 350.0), ("far", 0.0)] {
        assert!((share(id) - expected).abs() < 0.02, "{id}: {}", share(id));
        let percent = scored.iter().find(|one| one.point.id == id).unwrap().share_percent;
        assert!((f64::from(percent) / 100.0 - expected).abs() < 0.006, "{id}: {percent}");
    }
}

#[test]
fn geo_03_who_is_somewhere_stays_unless_it_is_much_better_elsewhere() {
    let points = points(&[("frankfurt", FRANKFURT), ("paris", PARIS), ("tokyo", TOKYO)]);
    let candidates = candidates(&points);
    for draw in 0..100 {
        let at = |current| Asker { current, draw, ..asker(Some(Place::at(49.3, 4.5))) };
        assert_eq!(first(&candidates, at("frankfurt")), "frankfurt", "2 ms more are no reason to move");
        assert_eq!(first(&candidates, at("tokyo")), "paris");
        assert_eq!(first(&candidates, at("gone")), "paris");
    }
}

#[test]
fn geo_03_as_one_fills_ever_more_clients_are_sent_on() {
    let points = points(&[("paris", PARIS), ("frankfurt", FRANKFURT)]);
    let mut candidates = candidates(&points);
    let mut share = |sessions| {
        candidates[0].status = load(sessions);
        let firsts = (0..2_000).map(|draw| first(&candidates, Asker { draw, ..asker(Some(PARIS)) }));
        firsts.filter(|first| first == "paris").count() as f64 / 2_000.0
    };
    assert_eq!((share(0), share(79)), (1.0, 1.0));
    let shares = [82, 86, 90, 94].map(&mut share);
    assert!(shares.is_sorted_by(|one, next| one > next), "{shares:?}");
    assert_eq!((share(97), share(100), share(1_000)), (0.0, 0.0, 0.0));
    // Who is there already takes no room.
    candidates[0].status = load(99);
    assert_eq!(first(&candidates, Asker { current: "paris", ..asker(Some(PARIS)) }), "paris");
}

#[test]
fn geo_03_full_and_unhealthy_ones_are_told_only_if_there_is_nothing_better() {
    let mut points = points(&[("a", PARIS), ("b", FRANKFURT), ("c", TOKYO)]);
    let mut all = candidates(&points);
    let ill = Status { healthy: false, load: None };
    (all[0].status, all[1].status) = (ill, load(100));
    assert_eq!(told(&decide(all.clone(), asker(Some(PARIS)))), ["c"]);
    all[2].status = load(100);
    assert_eq!(told(&decide(all.clone(), asker(Some(PARIS)))), ["b", "c"], "full, but alive");
    (all[1].status, all[2].status) = (ill, ill);
    assert_eq!(told(&decide(all, asker(Some(PARIS)))), ["a", "b", "c"], "it may be this node that is cut off");
    points.iter_mut().for_each(|point| point.drained = true);
    let drained = decide(candidates(&points), asker(Some(PARIS)));
    assert!(told(&drained).is_empty() && drained.len() == 3);
    assert!(decide(Vec::new(), asker(None)).is_empty());
}

#[test]
fn geo_03_one_client_in_four_measures_one_that_could_be_best() {
    let mut places = vec![("a", PARIS), ("b", PARIS), ("c", PARIS)];
    places.extend([("lyon", Place::at(45.76, 4.84)), ("tokyo", TOKYO)]);
    let points = points(&places);
    let mut candidates = candidates(&points);
    let explored = |candidates: &[Candidate<'_>]| {
        let thirds = (0..4_000).filter_map(|draw| {
            let scored = decide(candidates.to_vec(), Asker { draw, ..asker(Some(PARIS)) });
            scored[2].explored.then(|| scored[2].point.id.clone())
        });
        thirds.collect::<Vec<_>>()
    };
    let found = explored(&candidates);
    assert!((850..1150).contains(&found.len()), "{}", found.len());
    assert!(found.iter().all(|id| id == "lyon"), "light takes too long to Tokyo");
    candidates[3].measures = [measured(1.5, 11.0), None, measured(1.5, 1.0)];
    assert!(explored(&candidates).is_empty(), "enough is known of it");
}

#[test]
fn geo_03_a_client_that_is_nowhere_measures_what_is_not_known() {
    let points = points(&[("a", PARIS), ("b", PARIS), ("c", TOKYO), ("d", TOKYO), ("e", TOKYO)]);
    let mut candidates = candidates(&points);
    for (candidate, value) in candidates.iter_mut().zip([20.0, 30.0, 40.0]) {
        candidate.measures = [None, None, measured(value, 4.0)];
    }
    let scored = decide(candidates, asker(None));
    assert!(told(&scored)[0] == "a" && scored[1].explored && scored[2].explored, "{:?}", told(&scored));
    assert_eq!(told(&scored)[3..], ["b", "c"]);
}

#[test]
fn geo_03_round_trips_of_a_report_are_compared() {
    let all = points(&[("paris", PARIS), ("frankfurt", FRANKFURT), ("tokyo", TOKYO)]);
    let [paris, frankfurt, tokyo] = [&all[0], &all[1], &all[2]];
    let usual = |point: &AccessPoint| usual_ms(PARIS.distance_km(point.place));
    let votes = |round_trips: &[(&AccessPoint, Option<f64>)]| votes(Some(PARIS), round_trips);
    // 40 ms of last mile on everything, and Paris takes 10 ms more than it should.
    let found = votes(&[(paris, Some(usual(paris) + 50.0)), (frankfurt, Some(usual(frankfurt) + 40.0)), (tokyo, None)]);
    assert_eq!(
        found.iter().map(|vote| vote.map(|vote| (vote * 1e6).round())).collect::<Vec<_>>(),
        [Some((1.0 + 10.0 / usual(paris)) * 1e6), Some(1e6), Some((RTT_MS_MAX / usual(tokyo) * 1e6).round()),]
    );
    assert_eq!(votes(&[(paris, Some(7.0))]), [None], "alone it says nothing");
    assert!(votes(&[(paris, Some(7.0)), (tokyo, None)])[1].is_some(), "but that there was no connection does");
    // Nobody is faster than light, or slower than what counts as lost.
    let lie = votes(&[(paris, Some(usual(paris))), (tokyo, Some(1.0))]);
    let floor = floor_ms(PARIS.distance_km(TOKYO));
    assert!(
        (lie[0].unwrap() - (2.0 * usual(paris) - usual(paris) + usual(tokyo) - floor) / usual(paris)).abs()
            < 1.0 + 1e-6
    );
    assert_eq!(lie[1], Some(1.0));
    assert!(votes(&[(paris, Some(1e9)), (tokyo, Some(200.0))])[0].unwrap() <= RTT_MS_MAX / usual(paris) + 1.0);
    assert_eq!(
        super::votes(None, &[(paris, Some(7.0)), (tokyo, None), (paris, Some(1e9))]),
        [Some(7.0), Some(RTT_MS_MAX), Some(RTT_MS_MAX),]
    );
}

#[test]
fn geo_03_what_does_not_fit_a_place_makes_it_doubtful() {
    let all = points(&[("paris", PARIS), ("tokyo", TOKYO)]);
    let of =
        |paris_ms: f64, tokyo_ms: Option<f64>| is_misplaced(PARIS, &[(&all[0], Some(paris_ms)), (&all[1], tokyo_ms)]);
    assert_eq!(of(10.0, Some(200.0)), Some(false));
    assert_eq!(of(90.0, None), Some(false), "a slow last mile");
    assert_eq!(of(200.0, Some(40.0)), Some(true), "faster than light");
    assert_eq!(of(200.0, Some(300.0)), Some(true), "everything takes far too long");
    assert_eq!(is_misplaced(PARIS, &[(&all[0], None)]), None);
}

/// Access points anywhere, in any state.
fn any_points() -> impl Strategy<Value = Vec<(AccessPoint, Status, Measures)>> {
    let measure =
        || prop::option::of((0.1..11.0f64, 0.1..100.0f64).prop_map(|(votes, value)| Measure { votes, value }));
    let load = prop::option::of((0..200u64, 0..150u64));
    let one = (
        -90.0..90.0f64,
        -180.0..180.0f64,
        1..=10_000u32,
        any::<(bool, bool)>(),
        load,
        [measure(), measure(), measure()],
    );
    prop::collection::vec(one, 0..20).prop_map(|all| {
        let all = all.into_iter().enumerate();
        all.map(|(index, (latitude, longitude, weight, (drained, healthy), load, measures))| {
            let point = point(&format!("p{index}"), Place::at(latitude, longitude));
            (AccessPoint { weight, drained, ..point }, Status { healthy, load }, measures)
        })
        .collect()
    })
}

fn all(points: &[(AccessPoint, Status, Measures)]) -> Vec<Candidate<'_>> {
    points.iter().map(|(point, status, measures)| Candidate { point, status: *status, measures: *measures }).collect()
}

proptest! {
    #[test]
    fn geo_03_whatever_is_known_the_order_keeps_its_promises(
        points in any_points(), place in prop::option::of((-90.0..90.0f64, -180.0..180.0f64)), draw in any::<u64>(), at in 0..20usize
    ) {
        let current = format!("p{at}");
        let place = place.map(|(latitude, longitude)| Place::at(latitude, longitude));
        let asker = Asker { place, current: &current, draw };
        let scored = decide(all(&points), asker);
        prop_assert_eq!(scored.len(), points.len());
        // The same again, in whatever order they are known.
        let mut turned = points.clone();
        turned.reverse();
        let ids = |scored: &[Scored<'_>]| scored.iter().map(|one| one.point.id.clone()).collect::<Vec<_>>();
        prop_assert_eq!(ids(&scored), ids(&decide(all(&turned), asker)));

        let told: Vec<_> = scored.iter().filter(|one| one.told).collect();
        prop_assert!(told.len() <= TOLD_MAX && scored.iter().take(told.len()).all(|one| one.told));
        let Some(best) = told.first() else {
            prop_assert!(points.iter().all(|(point, ..)| point.drained));
            return Ok(());
        };
        prop_assert!(told.iter().all(|one| one.standing == best.standing && one.standing != Standing::Drained));
        let exists = |standing| scored.iter().any(|one| one.standing == standing);
        prop_assert_eq!(best.standing == Standing::Full, !exists(Standing::Room) && exists(Standing::Full));
        prop_assert_eq!(best.standing == Standing::Unhealthy, !exists(Standing::Room) && !exists(Standing::Full));
        // The first is as good as any that could be told, and the rest stand in order.
        let least = scored.iter().filter(|one| one.standing == best.standing).map(Scored::cost_ms).fold(f64::MAX, f64::min);
        prop_assert!(best.cost_ms() <= least.max(0.0) * (1.0 + NEAR_SHARE) + NEAR_MS);
        let far: Vec<_> = told.iter().filter(|one| !one.near && !one.explored).map(|one| one.cost_ms()).collect();
        prop_assert!(far.is_sorted());
        let shares: u32 = scored.iter().map(|one| one.share_percent).sum();
        prop_assert!((90..=110).contains(&shares), "{}", shares);
        prop_assert!(scored.iter().all(|one| one.rtt_ms.is_finite() && one.rtt_ms > 0.0));
    }

    /// Who gets faster does not fall behind anybody whom it stood before.
    #[test]
    fn geo_03_a_better_measurement_is_never_worse(points in any_points(), draw in any::<u64>(), which in any::<prop::sample::Index>(), less in 0.0..1.0f64) {
        prop_assume!(!points.is_empty());
        let which = which.index(points.len());
        let asker = Asker { place: Some(PARIS), current: "", draw };
        let cost = |points: &[(AccessPoint, Status, Measures)]| {
            let scored = decide(all(points), asker);
            scored.iter().find(|one| one.point.id == format!("p{which}")).map(Scored::cost_ms)
        };
        let before = cost(&points);
        let mut faster = points;
        faster[which].2.iter_mut().flatten().for_each(|measure| measure.value *= less);
        prop_assert!(cost(&faster) <= before);
    }
}
