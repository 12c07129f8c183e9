//! Where the buffers of a plan lie: all of them in one slab of memory, at places that are chosen beforehand from when
//! each is in use. Who uses them is `plan`'s affair.

use crate::init::mix;

/// Places begin at multiples of so many values: a cache line.
const LINE: usize = 16;

/// Orders that are tried; each takes some microseconds.
const TRIES: u64 = 300;

/// Number of a room.
pub(super) type RoomId = usize;

/// A buffer that is in use from its first to its last step.
#[derive(Debug, Clone, Copy)]
struct Room {
    len: usize,
    first: usize,
    last: usize,
}

/// A part of a slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    start: usize,
    len: usize,
}

/// Buffers, while it is found out when they are used.
#[derive(Debug, Default)]
pub(super) struct Rooms(Vec<Room>);

impl Rooms {
    /// A new one of `len` values, first used at `step`.
    pub(super) fn open(&mut self, len: usize, step: usize) -> RoomId {
        self.0.push(Room {
            len,
            first: step,
            last: step,
        });
        self.0.len() - 1
    }

    /// It is used at `step` as well, which is not before what was said so far.
    pub(super) fn used(&mut self, room: RoomId, step: usize) {
        self.0[room].last = step;
    }

    /// Places for all of them, and the length of the slab. Rooms that are in use at the same step do not overlap.
    ///
    /// They are placed one after the other, each where the gap between those that are there is the smallest that is large
    /// enough (Pisarchyk & Lee, "Efficient memory management for deep neural net inference", 2020): the largest first, and then
    /// in other orders, as long as there is hope. The best is kept.
    pub(super) fn place(&self) -> (Vec<Place>, usize) {
        let least = self.least();
        let mut order: Vec<RoomId> = (0..self.0.len()).collect();
        order.sort_by_key(|&room| std::cmp::Reverse(self.0[room].len));
        let mut best = self.place_in(&order);
        let mut tried = order.clone();
        for number in 0..TRIES {
            if best.1 <= least {
                break;
            }
            tried.clone_from(&order);
            let random = mix(number);
            let moved = tried.remove(random as usize % order.len());
            tried.insert((random >> 32) as usize % order.len(), moved);
            let found = self.place_in(&tried);
            // Equally good ones are gone on from as well: they may lead to better ones.
            if found.1 <= best.1 {
                best = found;
                order.clone_from(&tried);
            }
        }
        best
    }

    /// What no order can beat: the most that is in use at once.
    fn least(&self) -> usize {
        let in_use = |step: usize| {
            let rooms = self
                .0
                .iter()
                .filter(|room| (room.first..=room.last).contains(&step));
            rooms.map(|room| room.len).sum()
        };
        let most = self.0.iter().map(|room| in_use(room.first)).max();
        most.unwrap_or(0)
    }

    /// Places for rooms that are taken in this order.
    fn place_in(&self, order: &[RoomId]) -> (Vec<Place>, usize) {
        let mut starts: Vec<Option<usize>> = vec![None; self.0.len()];
        let (mut total, mut taken) = (0, Vec::new());
        for &id in order {
            let room = self.0[id];
            let meets = |other: &Room| room.first <= other.last && other.first <= room.last;
            let there = self.0.iter().zip(&starts).filter(|(other, _)| meets(other));
            taken.clear();
            taken.extend(there.filter_map(|(other, start)| start.map(|start| (start, start + other.len))));
            taken.sort_unstable();
            let (mut end, mut best) = (0, None);
            for &(from, to) in &taken {
                if end + room.len <= from && best.is_none_or(|(gap, _)| from - end < gap) {
                    best = Some((from - end, end));
                }
                end = end.max(to.next_multiple_of(LINE));
            }
            let start = best.map_or(end, |(_, start)| start);
            starts[id] = Some(start);
            total = total.max(start + room.len);
        }
        let place = |(room, start): (&Room, &Option<usize>)| Place {
            start: start.unwrap_or(0),
            len: room.len,
        };
        (self.0.iter().zip(&starts).map(place).collect(), total)
    }
}

/// Parts of a slab that do not overlap, each to be read by many or taken by one.
#[derive(Debug)]
pub(super) struct Parts<'a>(Vec<(Place, &'a mut [f32])>);

impl<'a> Parts<'a> {
    /// The parts at `places`, some of which may be the same one.
    pub(super) fn new(slab: &'a mut [f32], mut places: Vec<Place>) -> Self {
        places.sort_unstable_by_key(|place| place.start);
        places.dedup();
        let (mut rest, mut at) = (slab, 0);
        let part = |place: Place| {
            let (_, from) = std::mem::take(&mut rest).split_at_mut(place.start - at);
            let (part, behind) = from.split_at_mut(place.len);
            (rest, at) = (behind, place.start + place.len);
            (place, part)
        };
        Self(places.into_iter().map(part).collect())
    }

    /// The part at a place; it is not there any more afterwards.
    pub(super) fn take(&mut self, place: Place) -> &'a mut [f32] {
        match self.0.iter().position(|(other, _)| *other == place) {
            Some(i) => self.0.swap_remove(i).1,
            None => &mut [],
        }
    }

    /// The part at a place.
    pub(super) fn get(&self, place: Place) -> &[f32] {
        let found = self.0.iter().find(|(other, _)| *other == place);
        found.map_or(&[], |(_, part)| part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Nothing that is in use at the same time overlaps, and the slab is not much longer than what is.
        #[test]
        fn rooms_do_not_overlap(rooms in prop::collection::vec((1usize..500, 0usize..40, 0usize..12), 1..60)) {
            let mut all = Rooms::default();
            for &(len, first, steps) in &rooms {
                let room = all.open(len, first);
                all.used(room, first + steps);
            }
            let (places, total) = all.place();
            let in_use = |step: usize| {
                let used = all.0.iter().zip(&places);
                used.filter(move |(room, _)| (room.first..=room.last).contains(&step)).map(|(_, place)| *place)
            };
            let mut most = 0;
            for step in 0..60 {
                let mut now: Vec<Place> = in_use(step).collect();
                now.sort_by_key(|place| place.start);
                prop_assert!(now.windows(2).all(|w| w[0].start + w[0].len <= w[1].start));
                prop_assert!(now.iter().all(|place| place.start + place.len <= total));
                most = most.max(now.iter().map(|place| place.len.next_multiple_of(LINE)).sum::<usize>());
            }
            prop_assert!(total <= most + most / 2, "{total} where {most} are used at once");
        }
    }

    #[test]
    fn parts_are_taken_once_and_read_often() {
        let mut slab: Vec<f32> = (0..10).map(|i| i as f32).collect();
        let place = |start, len| Place { start, len };
        let places = vec![place(6, 3), place(1, 2), place(6, 3)];
        let mut parts = Parts::new(&mut slab, places);
        parts.take(place(1, 2)).fill(9.0);
        assert_eq!(parts.get(place(6, 3)), [6.0, 7.0, 8.0]);
        assert!(parts.get(place(1, 2)).is_empty());
        assert_eq!(slab[..4], [0.0, 9.0, 9.0, 3.0]);
    }
}
