//! Wakes connections when their time comes. One ticker for a thread instead of a timer for every
//! connection: arming an alarm is two stores, and a hundred sends that fall due together wake together.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    task::Waker,
};

use crate::clock::Micros;

/// One connection's next deadline.
#[derive(Debug)]
pub(crate) struct Alarm {
    due_us: Cell<Micros>,
    waker: RefCell<Waker>,
}

impl Alarm {
    /// Wakes `waker` once it is `due_us`; replaces what was set before.
    pub(crate) fn set(&self, due_us: Micros, waker: &Waker) {
        self.due_us.set(due_us);
        self.waker.borrow_mut().clone_from(waker);
    }
}

/// The alarms of a thread.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    list: RefCell<Vec<Weak<Alarm>>>,
}

impl Alarms {
    /// A new alarm, not set; it is forgotten once dropped.
    pub(crate) fn alarm(&self) -> Rc<Alarm> {
        let alarm = Rc::new(Alarm { due_us: Cell::new(Micros::MAX), waker: RefCell::new(Waker::noop().clone()) });
        self.list.borrow_mut().push(Rc::downgrade(&alarm));
        alarm
    }

    /// Wakes whatever is due at `now_us`.
    pub(crate) fn ring(&self, now_us: Micros) {
        self.list.borrow_mut().retain(|alarm| {
            let Some(alarm) = alarm.upgrade() else { return false };
            if alarm.due_us.get() <= now_us {
                alarm.due_us.set(Micros::MAX);
                alarm.waker.borrow().wake_by_ref();
            }
            true
        });
    }
}
