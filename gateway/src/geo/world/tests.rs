//! What the simulator is to show, with seeds (GEO-02, GEO-03).

use super::{run::REPORT_S, *};
use crate::geo::regions;

fn config() -> GeoConfig {
    let (config, _) = super::super::tests::config();
    GeoConfig { access_points: Vec::new(), regions: regions::with(Vec::new()).unwrap(), database: None, ..config }
}

#[test]
fn geo_02_users_reach_an_access_point_within_a_tenth_of_the_best() {
    for seed in 1..=3 {
        let outcome = Plan::ordinary(seed, &config()).run();
        assert!(outcome.logins > 5_000, "seed {seed}");
        assert!(outcome.good_percent() >= 95.0, "seed {seed}: {:.2}%", outcome.good_percent());
        assert_eq!((outcome.lost, outcome.overfull_s), (0, 0), "seed {seed}");
        // Nobody is sent to and fro: in ten minutes some 2,000 sessions have asked each at least twice.
        assert!(outcome.moves < outcome.logins / 10, "seed {seed}: {} moves", outcome.moves);
        assert!(outcome.worse_moves * 20 <= outcome.moves, "seed {seed}: {} of {}", outcome.worse_moves, outcome.moves);
    }
}

#[test]
fn geo_03_measurements_make_it_better() {
    for seed in 1..=2 {
        let plan = Plan::ordinary(seed, &config());
        let blind = Plan { reports: false, ..plan.clone() }.run();
        let seeing = plan.run();
        assert!(seeing.good_percent() > blind.good_percent(), "{} {}", seeing.good_percent(), blind.good_percent());
    }
}

#[test]
fn geo_03_a_failed_region_empties_within_one_expiry() {
    for (seed, region) in [(1, "japan"), (2, "china-south"), (3, "germany")] {
        let fails_s = 200;
        let plan = Plan::ordinary(seed, &config());
        let plan = Plan { seconds: 450, warm_up_s: 0, events: vec![(fails_s, Event::Fail(region.into()))], ..plan };
        let outcome = plan.run();
        assert!(outcome.last_on_failed_s > fails_s, "seed {seed}: {region} had nobody");
        let emptied_s = outcome.last_on_failed_s + 1 - fails_s;
        assert!(emptied_s <= plan.config.expires_seconds + REPORT_S, "seed {seed}: {emptied_s} s");
        assert_eq!((outcome.lost, outcome.overfull_s), (0, 0), "seed {seed}");
    }
}

#[test]
fn geo_03_users_of_a_dead_region_come_back_without_overfilling_others() {
    for (seed, region) in [(1, "japan"), (2, "japan")] {
        let plan = Plan::ordinary(seed, &config());
        let points = plan.config.access_points.clone();
        let config = GeoConfig {
            access_points: points.into_iter().map(|point| AccessPoint { capacity: 260, ..point }).collect(),
            ..plan.config
        };
        let plan = Plan { config, seconds: 320, warm_up_s: 0, events: vec![(250, Event::Drop(region.into()))], ..plan };
        let outcome = plan.run();
        let dead = plan.config.access_points.iter().position(|point| point.region == region).expect("it is there");
        assert!(outcome.most[dead] > 150, "seed {seed}: {region} had {}", outcome.most[dead]);
        assert_eq!((outcome.lost, outcome.overfull_s), (0, 0), "seed {seed}: {:?}", outcome.most);
    }
}

#[test]
fn geo_03_no_access_point_goes_over_its_capacity_while_others_have_room() {
    for (seed, city) in [(1, "Jakarta"), (2, "London"), (3, "São Paulo")] {
        let plan = Plan::ordinary(seed, &config());
        let crowd = Event::Crowd { city, logins_per_second: 60, seconds: 250 };
        let plan = Plan { seconds: 400, warm_up_s: 100, events: vec![(100, crowd)], ..plan };
        let outcome = plan.run();
        assert_eq!((outcome.overfull_s, outcome.lost), (0, 0), "seed {seed}");
        let filled = outcome
            .most
            .iter()
            .zip(&plan.config.access_points)
            .filter(|(most, point)| **most * 10 > point.capacity * 8);
        assert!(filled.count() >= 2, "seed {seed}: nothing was full: {:?}", outcome.most);
    }
}

#[test]
fn geo_03_the_same_seed_is_the_same_run() {
    let plan = Plan { seconds: 60, warm_up_s: 0, ..Plan::ordinary(4, &config()) };
    let outcomes = [plan.run(), plan.run(), Plan { seed: 5, ..plan }.run()];
    let [one, again, other] = outcomes.map(|outcome| (outcome.good, outcome.excess_ms, outcome.most));
    assert!(one == again && one != other);
}
