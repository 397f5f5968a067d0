//! What one transaction has written and not yet committed, with its reads merged over it.
//!
//! Shared by the engines that keep their transactions in this process. What lives here: the write
//! buffer, the arithmetic of atomic operations, and the merge of own writes over a [`Snapshot`].
//! What may not: conflict detection ([`super::conflicts`]), limits ([`super::Tx`]), I/O.
//!
//! Point writes sit in a hash map, because the hot path is thousands of sets and gets by key; their
//! order is built only once something asks for it (a range read, a range clear).

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
};

use bytes::{Bytes, BytesMut};

use super::seam::{AtomicOp, Committed, RangePage, RangeQuery, StoreError, Versionstamp};

/// A key range, end exclusive.
pub(super) type KeyRange = (Bytes, Bytes);

/// A step of a scan.
pub(super) type ScanItem = Result<(Bytes, Bytes), StoreError>;

/// Committed state at one version, which a transaction's reads fall through to.
pub(super) trait Snapshot {
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
    /// The pairs with `begin <= key < end`, from the end backwards if `reverse`.
    fn scan(&self, begin: &[u8], end: &[u8], reverse: bool) -> impl Iterator<Item = ScanItem>;
}

/// What the buffer knows of a key.
pub(super) enum Own<'a> {
    /// Nothing: the snapshot decides.
    Unknown,
    /// All: this value, or none.
    Known(Option<&'a Bytes>),
    /// What will be done to whatever is there.
    Changed(&'a Pending),
}

/// A key's pending write.
pub(super) enum Pending {
    Value(Bytes),
    Cleared,
    /// Operations on a value that was not read; applied in order at commit.
    Atomic(Vec<Step>),
}

/// A step of a write that waits for the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Op(AtomicOp, Bytes),
    /// A value with a versionstamp in it.
    Stamp {
        prefix: Bytes,
        user_version: u16,
        suffix: Bytes,
    },
}

impl Step {
    /// The value after this step. Before the commit there is no stamp, and no value for it.
    fn over(&self, value: Option<Bytes>, committed: Option<Committed>) -> Option<Bytes> {
        match self {
            Step::Op(op, operand) => Some(apply(*op, value.as_deref(), operand)),
            Step::Stamp { prefix, user_version, suffix } => {
                committed.map(|committed| stamped(prefix, committed.stamp(*user_version), suffix))
            }
        }
    }
}

impl Pending {
    /// The value that results over `base`.
    fn over(&self, base: Option<Bytes>, committed: Option<Committed>) -> Option<Bytes> {
        match self {
            Pending::Value(value) => Some(value.clone()),
            Pending::Cleared => None,
            Pending::Atomic(steps) => steps.iter().fold(base, |value, step| step.over(value, committed)),
        }
    }
}

struct Stamped {
    prefix: Bytes,
    user_version: u16,
    suffix: Bytes,
    value: Bytes,
}

/// The writes of one transaction.
#[derive(Default)]
pub(super) struct WriteBuffer {
    points: HashMap<Bytes, Pending, ahash::RandomState>,
    /// The keys of `points` in order; built on first need, kept up from then on.
    order: Option<BTreeSet<Bytes>>,
    /// Cleared ranges, begin → end, disjoint. Entries of `points` inside them were written later.
    cleared: BTreeMap<Bytes, Bytes>,
    stamped: Vec<Stamped>,
    /// Ranges cleared after the first `.0` entries of `stamped` were appended: those fall to them.
    cleared_after_stamped: Vec<(usize, Bytes, Bytes)>,
    /// Ranges declared as written without being so.
    conflicts: Vec<KeyRange>,
}

impl WriteBuffer {
    /// Whether a commit has nothing to do and nothing to tell others.
    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty() && self.cleared.is_empty() && self.stamped.is_empty() && self.conflicts.is_empty()
    }

    pub(super) fn set(&mut self, key: Bytes, value: Bytes) {
        self.put(key, Pending::Value(value));
    }

    pub(super) fn clear(&mut self, key: &[u8]) {
        self.put(Bytes::copy_from_slice(key), Pending::Cleared);
    }

    pub(super) fn clear_range(&mut self, begin: &[u8], end: &[u8]) {
        if begin >= end {
            return;
        }
        if !self.points.is_empty() {
            let inside: Vec<Bytes> = self.ordered_keys(begin, end).cloned().collect();
            for key in &inside {
                self.points.remove(key);
                if let Some(order) = &mut self.order {
                    order.remove(key);
                }
            }
        }
        let (begin, end) = (Bytes::copy_from_slice(begin), Bytes::copy_from_slice(end));
        if !self.stamped.is_empty() {
            self.cleared_after_stamped.push((self.stamped.len(), begin.clone(), end.clone()));
        }
        self.add_cleared(begin, end);
    }

    pub(super) fn atomic(&mut self, op: AtomicOp, key: &[u8], operand: &[u8]) {
        if let Some(Pending::Atomic(steps)) = self.points.get_mut(key) {
            return push_step(steps, op, operand);
        }
        let known = match self.own(key) {
            Own::Known(value) => Some(apply(op, value.map(|value| &value[..]), operand)),
            Own::Unknown | Own::Changed(_) => None,
        };
        let pending = match known {
            Some(value) => Pending::Value(value),
            None => Pending::Atomic(vec![Step::Op(op, Bytes::copy_from_slice(operand))]),
        };
        self.put(Bytes::copy_from_slice(key), pending);
    }

    pub(super) fn append_versionstamped(&mut self, prefix: &[u8], user_version: u16, suffix: &[u8], value: Bytes) {
        let (prefix, suffix) = (Bytes::copy_from_slice(prefix), Bytes::copy_from_slice(suffix));
        self.stamped.push(Stamped { prefix, user_version, suffix, value });
    }

    pub(super) fn set_versionstamped_value(&mut self, key: Bytes, prefix: &[u8], user_version: u16, suffix: &[u8]) {
        let (prefix, suffix) = (Bytes::copy_from_slice(prefix), Bytes::copy_from_slice(suffix));
        self.put(key, Pending::Atomic(vec![Step::Stamp { prefix, user_version, suffix }]));
    }

    pub(super) fn add_conflict(&mut self, begin: &[u8], end: &[u8]) {
        // In an empty range there is nothing to conflict with.
        if begin < end {
            self.conflicts.push((Bytes::copy_from_slice(begin), Bytes::copy_from_slice(end)));
        }
    }

    /// What this transaction did to `key`.
    pub(super) fn own(&self, key: &[u8]) -> Own<'_> {
        match self.points.get(key) {
            Some(Pending::Value(value)) => Own::Known(Some(value)),
            Some(Pending::Cleared) => Own::Known(None),
            Some(pending @ Pending::Atomic(_)) => Own::Changed(pending),
            None if self.cleared_around(key).is_some() => Own::Known(None),
            None => Own::Unknown,
        }
    }

    /// `key` as this transaction sees it.
    pub(super) fn read(&self, base: &impl Snapshot, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.own(key) {
            Own::Known(value) => Ok(value.cloned()),
            Own::Changed(pending) => Ok(pending.over(base.get(key)?, None)),
            Own::Unknown => base.get(key),
        }
    }

    /// A range as this transaction sees it. `more` tells that the limit was reached.
    pub(super) fn read_range(&mut self, base: &impl Snapshot, query: &RangeQuery) -> Result<RangePage, StoreError> {
        let (begin, end, reverse) = (&query.begin[..], &query.end[..], query.reverse);
        if begin >= end {
            return Ok(RangePage::default());
        }
        let mut pairs = Vec::new();
        if self.points.is_empty() && self.cleared.is_empty() {
            for pair in base.scan(begin, end, reverse).take(query.limit) {
                pairs.push(pair?);
            }
        } else {
            self.build_order();
            self.merge(base, query, &mut pairs)?;
        }
        let more = pairs.len() >= query.limit;
        Ok(RangePage { pairs, more })
    }

    /// Calls `gap` with the parts of `begin..end` whose content this transaction did not decide itself.
    pub(super) fn for_each_gap(&mut self, begin: &[u8], end: &[u8], mut gap: impl FnMut(Bytes, Bytes)) {
        if begin >= end {
            return;
        }
        let mut known: Vec<KeyRange> = Vec::new();
        if !self.points.is_empty() {
            let keys: Vec<Bytes> = self.ordered_keys(begin, end).cloned().collect();
            let decided = keys.into_iter().filter(|key| !matches!(self.points.get(key), Some(Pending::Atomic(_))));
            known.extend(decided.map(|key| (key.clone(), after(&key))));
        }
        let cleared = self.cleared.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(end)));
        known.extend(cleared.rev().take_while(|(_, e)| &e[..] > begin).map(|(b, e)| (b.clone(), e.clone())));
        known.sort();

        let mut from = Bytes::copy_from_slice(begin);
        for (known_begin, known_end) in known {
            if known_begin > from {
                gap(from.clone(), known_begin);
            }
            from = from.max(known_end);
        }
        if &from[..] < end {
            gap(from, Bytes::copy_from_slice(end));
        }
    }

    /// Settles everything that had to wait for the commit: atomics against the `latest` state, and
    /// versionstamps. Afterwards [`Self::points`] and [`Self::cleared`] are all there is to write.
    pub(super) fn resolve(&mut self, committed: Committed, latest: &impl Snapshot) -> Result<(), StoreError> {
        for (key, pending) in &mut self.points {
            if let Pending::Atomic(_) = pending
                && let Some(value) = pending.over(latest.get(key)?, Some(committed))
            {
                *pending = Pending::Value(value);
            }
        }
        for (at, stamped) in std::mem::take(&mut self.stamped).into_iter().enumerate() {
            let key = self::stamped(&stamped.prefix, committed.stamp(stamped.user_version), &stamped.suffix);
            let cleared_later =
                |(count, begin, end): &(usize, Bytes, Bytes)| at < *count && *begin <= key && key < *end;
            if !self.cleared_after_stamped.iter().any(cleared_later) {
                self.set(key, stamped.value);
            }
        }
        Ok(())
    }

    /// The points to write after [`Self::resolve`]: a value, or none for a removal.
    pub(super) fn points(&self) -> impl Iterator<Item = (&Bytes, Option<&Bytes>)> {
        self.points.iter().map(|(key, pending)| match pending {
            Pending::Value(value) => (key, Some(value)),
            Pending::Cleared | Pending::Atomic(_) => (key, None),
        })
    }

    /// How many points there are to write.
    pub(super) fn points_len(&self) -> usize {
        self.points.len()
    }

    /// Whether `key` is among the points, so that a cleared range around it must spare it.
    pub(super) fn has_point(&self, key: &[u8]) -> bool {
        self.points.contains_key(key)
    }

    /// The ranges to remove, before the points are written.
    pub(super) fn cleared(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.cleared.iter()
    }

    /// What others that read it conflict with: every written key and range.
    pub(super) fn into_written(self) -> (Vec<Bytes>, Vec<KeyRange>) {
        let mut ranges = self.conflicts;
        ranges.extend(self.cleared);
        (self.points.into_keys().collect(), ranges)
    }

    fn put(&mut self, key: Bytes, pending: Pending) {
        if let Some(order) = &mut self.order {
            order.insert(key.clone());
        }
        self.points.insert(key, pending);
    }

    fn ordered_keys(&mut self, begin: &[u8], end: &[u8]) -> impl DoubleEndedIterator<Item = &Bytes> {
        self.build_order().range::<[u8], _>((Bound::Included(begin), Bound::Excluded(end)))
    }

    fn build_order(&mut self) -> &BTreeSet<Bytes> {
        self.order.get_or_insert_with(|| self.points.keys().cloned().collect())
    }

    fn merge(
        &self,
        base: &impl Snapshot,
        query: &RangeQuery,
        pairs: &mut Vec<(Bytes, Bytes)>,
    ) -> Result<(), StoreError> {
        let (begin, end, reverse) = (&query.begin[..], &query.end[..], query.reverse);
        let mut theirs = self.uncleared(base, begin, end, reverse).peekable();
        let bounds = (Bound::Included(begin), Bound::Excluded(end));
        let mut own = self.order.iter().flat_map(|order| direction(order.range::<[u8], _>(bounds), reverse)).peekable();
        while pairs.len() < query.limit {
            let nearer = match (theirs.peek(), own.peek()) {
                (None, None) => break,
                (Some(_), None) | (Some(Err(_)), _) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(Ok((their_key, _))), Some(own_key)) if reverse => (*own_key).cmp(their_key),
                (Some(Ok((their_key, _))), Some(own_key)) => their_key.cmp(own_key),
            };
            let their_pair = if nearer.is_le() { theirs.next().transpose()? } else { None };
            let own_key = if nearer.is_ge() { own.next() } else { None };
            match (their_pair, own_key) {
                (Some(pair), None) => pairs.push(pair),
                (theirs, Some(key)) => {
                    let value =
                        self.points.get(key).and_then(|pending| pending.over(theirs.map(|(_, value)| value), None));
                    pairs.extend(value.map(|value| (key.clone(), value)));
                }
                (None, None) => break,
            }
        }
        Ok(())
    }

    /// The snapshot's pairs outside of the cleared ranges, jumping over those instead of walking them.
    fn uncleared<'a, S: Snapshot>(
        &'a self,
        base: &'a S,
        begin: &'a [u8],
        end: &'a [u8],
        reverse: bool,
    ) -> impl Iterator<Item = ScanItem> + 'a {
        let mut scan = Box::new(base.scan(begin, end, reverse)) as Box<dyn Iterator<Item = ScanItem> + 'a>;
        std::iter::from_fn(move || {
            loop {
                let item = scan.next()?;
                let Ok((key, _)) = &item else { return Some(item) };
                let Some((cleared_begin, cleared_end)) = self.cleared_around(key) else { return Some(item) };
                scan = match reverse {
                    false if &cleared_end[..] < end => Box::new(base.scan(cleared_end, end, false)),
                    true if &cleared_begin[..] > begin => Box::new(base.scan(begin, cleared_begin, true)),
                    _ => Box::new(std::iter::empty()),
                };
            }
        })
    }

    fn cleared_around(&self, key: &[u8]) -> Option<(&Bytes, &Bytes)> {
        if self.cleared.is_empty() {
            return None;
        }
        let before = self.cleared.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        before.filter(|(_, end)| &end[..] > key)
    }

    fn add_cleared(&mut self, mut begin: Bytes, mut end: Bytes) {
        let touching = self.cleared.range::<[u8], _>((Bound::Unbounded, Bound::Included(&end[..])));
        let swallowed: Vec<Bytes> = touching.rev().take_while(|(_, e)| **e >= begin).map(|(b, _)| b.clone()).collect();
        for old_begin in swallowed {
            if let Some(old_end) = self.cleared.remove(&old_begin) {
                begin = begin.min(old_begin);
                end = end.max(old_end);
            }
        }
        self.cleared.insert(begin, end);
    }
}

/// The first key behind `key`.
pub(super) fn after(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.extend_from_slice(&[0]);
    next.freeze()
}

fn stamped(prefix: &[u8], stamp: Versionstamp, suffix: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(prefix.len() + Versionstamp::LEN + suffix.len());
    bytes.extend_from_slice(prefix);
    bytes.extend_from_slice(&stamp.0);
    bytes.extend_from_slice(suffix);
    bytes.freeze()
}

fn direction<'a, I>(keys: I, reverse: bool) -> Box<dyn Iterator<Item = &'a Bytes> + 'a>
where
    I: DoubleEndedIterator<Item = &'a Bytes> + 'a,
{
    if reverse { Box::new(keys.rev()) } else { Box::new(keys) }
}

/// Adds a step to pending ones, folding it into the last where that changes nothing: same operation,
/// same width. Keeps a counter that one transaction bumps a thousand times at one step.
fn push_step(steps: &mut Vec<Step>, op: AtomicOp, operand: &[u8]) {
    match steps.last_mut() {
        Some(Step::Op(last_op, last)) if *last_op == op && last.len() == operand.len() => {
            *last = apply(op, Some(last), operand);
        }
        _ => steps.push(Step::Op(op, Bytes::copy_from_slice(operand))),
    }
}

/// `op` on a stored value: both little-endian, the stored one cut or zero-extended to the operand's width.
fn apply(op: AtomicOp, stored: Option<&[u8]>, operand: &[u8]) -> Bytes {
    let Some(stored) = stored else { return Bytes::copy_from_slice(operand) };
    let widened = stored.iter().copied().chain(std::iter::repeat(0)).take(operand.len());
    match op {
        AtomicOp::Add => {
            let mut carry = false;
            let add = |(a, b): (u8, &u8)| {
                let (sum, over) = a.overflowing_add(*b);
                let (sum, over_again) = sum.overflowing_add(u8::from(carry));
                carry = over || over_again;
                sum
            };
            widened.zip(operand).map(add).collect()
        }
        AtomicOp::Max | AtomicOp::Min => {
            let stored: Vec<u8> = widened.collect();
            let stored_is_greater = stored.iter().rev().gt(operand.iter().rev());
            if stored_is_greater == (op == AtomicOp::Max) { stored.into() } else { Bytes::copy_from_slice(operand) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atomics_take_the_width_of_the_operand() {
        let cases = [
            (AtomicOp::Add, None, &[5u8, 0][..], &[5u8, 0][..]),
            (AtomicOp::Add, Some(&[255u8, 0][..]), &[1, 0], &[0, 1]),
            (AtomicOp::Add, Some(&[255, 255]), &[1, 0], &[0, 0]),
            (AtomicOp::Add, Some(&[1]), &[1, 2], &[2, 2]),
            (AtomicOp::Add, Some(&[1, 9, 9]), &[1], &[2]),
            (AtomicOp::Max, Some(&[1, 2]), &[2, 1], &[1, 2]),
            (AtomicOp::Max, Some(&[7]), &[2, 0], &[7, 0]),
            (AtomicOp::Min, Some(&[1, 2]), &[2, 1], &[2, 1]),
            (AtomicOp::Min, None, &[2, 1], &[2, 1]),
            (AtomicOp::Min, Some(&[]), &[2, 1], &[0, 0]),
        ];
        for (op, stored, operand, expected) in cases {
            assert_eq!(&apply(op, stored, operand)[..], expected, "{op:?} {stored:?} {operand:?}");
        }
    }

    #[test]
    fn cleared_ranges_join_where_they_touch() {
        let mut buffer = WriteBuffer::default();
        for (begin, end) in [("b", "d"), ("m", "p"), ("d", "f"), ("a", "c"), ("n", "o")] {
            buffer.clear_range(begin.as_bytes(), end.as_bytes());
        }
        let cleared: Vec<_> = buffer.cleared().map(|(begin, end)| (begin.clone(), end.clone())).collect();
        assert_eq!(cleared, [("a".into(), "f".into()), ("m".into(), "p".into())]);
    }

    #[test]
    fn gaps_spare_what_was_written() {
        let mut buffer = WriteBuffer::default();
        buffer.set("c".into(), "1".into());
        buffer.atomic(AtomicOp::Add, b"d", &[1]);
        buffer.clear_range(b"f", b"h");
        let mut gaps = Vec::new();
        buffer.for_each_gap(b"b", b"z", |begin, end| gaps.push((begin, end)));
        let expected: [KeyRange; 3] = [("b".into(), "c".into()), ("c\0".into(), "f".into()), ("h".into(), "z".into())];
        assert_eq!(gaps, expected);
        buffer.for_each_gap(b"z", b"b", |begin, end| panic!("{begin:?}..{end:?} in nothing"));
    }

    #[test]
    fn a_thousand_additions_are_one_step() {
        let mut buffer = WriteBuffer::default();
        for _ in 0..1000 {
            buffer.atomic(AtomicOp::Add, b"count", &1u64.to_le_bytes());
        }
        let Own::Changed(Pending::Atomic(steps)) = buffer.own(b"count") else { panic!("not atomic") };
        assert_eq!(steps[..], [Step::Op(AtomicOp::Add, Bytes::copy_from_slice(&1000u64.to_le_bytes()))]);
    }
}
