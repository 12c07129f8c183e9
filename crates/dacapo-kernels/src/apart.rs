//! Disjoint sets that may be told to stay apart, for the mutex watershed.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use crate::UnionFind;
use crate::hash::IdHasher;

/// Members joined so far, and which sets are apart.
#[derive(Debug)]
pub(crate) struct ApartSets {
    /// Of the member that names its set, [`NAME`] and where in `apart` the names are that the set must stay apart from:
    /// both are asked for together. Most members never need such a place; it moves with the set that has more names. Of
    /// any other member one that is nearer to the name.
    members: Vec<u32>,
    apart: Vec<Names>,
    /// Places that are not used any more.
    free: Vec<u32>,
}

const NAME: u32 = 1 << 31;
/// A name without a place: as a place, it is behind all others.
const NO_PLACE: u32 = u32::MAX;

impl ApartSets {
    /// So many sets of one member each, fewer than 2³¹.
    pub fn new(members: u32) -> Self {
        Self {
            members: vec![NO_PLACE; members as usize],
            apart: Vec::new(),
            free: Vec::new(),
        }
    }

    /// The name of the set that `member` is in. The way there is halved (see [`UnionFind`]).
    #[inline]
    pub fn find(&mut self, mut member: u32) -> u32 {
        loop {
            let above = self.above(member);
            let next = self.above(above);
            if next == above {
                return above;
            }
            self.members[member as usize] = next;
            member = next;
        }
    }

    /// The next member on the way to the name, which leads to itself.
    #[inline]
    fn above(&self, member: u32) -> u32 {
        let above = self.members[member as usize];
        if above < NAME { above } else { member }
    }

    /// The sets alone.
    pub fn into_sets(mut self) -> UnionFind {
        for (member, above) in (0..).zip(&mut self.members) {
            if *above >= NAME {
                *above = member;
            }
        }
        UnionFind::from_parents(self.members)
    }

    /// Makes of each member the name of its set now. Their ways are gone together, a step of all before the next one: they
    /// lead anywhere, and memory answers many questions in the time of one.
    pub fn find_all(&mut self, members: &mut [u32]) {
        const TOGETHER: usize = 64;
        for members in members.chunks_mut(TOGETHER) {
            let mut names = [0; TOGETHER];
            for (name, &member) in names.iter_mut().zip(&*members) {
                *name = self.above(member);
            }
            for name in &mut names[..members.len()] {
                *name = self.above(*name);
            }
            for (member, &near) in members.iter_mut().zip(&names) {
                let name = self.find(near);
                if name != *member {
                    self.members[*member as usize] = name;
                }
                *member = name;
            }
        }
    }

    /// Joins the sets of `p` and `q`, unless they are apart.
    #[inline]
    pub fn join(&mut self, p: u32, q: u32) {
        let (a, b) = (self.find(p), self.find(q));
        if a != b && !self.are_apart(a, b) {
            self.merge(a, b);
        }
    }

    /// Keeps the sets of `p` and `q` apart from now on, unless they are one.
    #[inline]
    pub fn part(&mut self, p: u32, q: u32) {
        let (a, b) = (self.find(p), self.find(q));
        if a != b && self.names_mut(a).insert(b) {
            self.names_mut(b).insert(a);
        }
    }

    fn names(&self, set: u32) -> Option<&Names> {
        self.apart.get((self.members[set as usize] & !NAME) as usize)
    }

    fn names_mut(&mut self, set: u32) -> &mut Names {
        let place = &mut self.members[set as usize];
        if *place == NO_PLACE {
            *place = NAME
                | self.free.pop().unwrap_or_else(|| {
                    self.apart.push(Names::default());
                    self.apart.len() as u32 - 1
                });
        }
        &mut self.apart[(*place & !NAME) as usize]
    }

    fn are_apart(&self, a: u32, b: u32) -> bool {
        match (self.names(a), self.names(b)) {
            (Some(of_a), Some(of_b)) if of_a.len() <= of_b.len() => of_a.contains(b),
            (Some(_), Some(of_b)) => of_b.contains(a),
            _ => false,
        }
    }

    fn merge(&mut self, a: u32, b: u32) {
        // The set with fewer names gives up its own: only those that it names have to hear of it.
        let count = |set| self.names(set).map_or(0, Names::len);
        let (stays, goes) = if count(a) < count(b) { (b, a) } else { (a, b) };
        let place = std::mem::replace(&mut self.members[goes as usize], stays);
        if place != NO_PLACE {
            let place = place & !NAME;
            self.free.push(place);
            std::mem::take(&mut self.apart[place as usize]).for_each(|other| {
                self.names_mut(other).remove(goes);
                self.names_mut(other).insert(stays);
                self.names_mut(stays).insert(other);
            });
        }
    }
}

/// A set of names: a few in place, some in a list, more in a table.
#[derive(Debug)]
#[allow(
    clippy::box_collection,
    reason = "most have a few: the others must not make these larger"
)]
enum Names {
    Few { count: u8, names: [u32; FEW] },
    Some(Vec<u32>),
    Many(Box<HashSet<u32, BuildHasherDefault<IdHasher>>>),
}

/// As many as fit beside the head of a list.
const FEW: usize = 3;
/// As many as are looked through faster than a table is asked.
const SOME: usize = 32;

impl Default for Names {
    fn default() -> Self {
        Self::Few {
            count: 0,
            names: [0; FEW],
        }
    }
}

impl Names {
    fn len(&self) -> usize {
        match self {
            Self::Few { count, .. } => usize::from(*count),
            Self::Some(names) => names.len(),
            Self::Many(names) => names.len(),
        }
    }

    #[inline]
    fn contains(&self, name: u32) -> bool {
        match self {
            Self::Few { count, names } => names[..usize::from(*count)].contains(&name),
            Self::Some(names) => names.contains(&name),
            Self::Many(names) => names.contains(&name),
        }
    }

    /// Whether it was not there before.
    #[inline]
    fn insert(&mut self, name: u32) -> bool {
        match self {
            Self::Many(names) => return names.insert(name),
            _ if self.contains(name) => return false,
            Self::Few { count, names } if usize::from(*count) < FEW => {
                names[usize::from(*count)] = name;
                *count += 1;
            }
            Self::Few { names, .. } => {
                let mut some = Vec::with_capacity(3 * FEW);
                some.extend_from_slice(names);
                some.push(name);
                *self = Self::Some(some);
            }
            Self::Some(names) if names.len() < SOME => names.push(name),
            Self::Some(names) => {
                let mut many: HashSet<_, _> = names.iter().copied().collect();
                many.insert(name);
                *self = Self::Many(Box::new(many));
            }
        }
        true
    }

    #[inline]
    fn remove(&mut self, name: u32) {
        match self {
            Self::Few { count, names } => {
                let n = usize::from(*count);
                if let Some(i) = names[..n].iter().position(|&other| other == name) {
                    names[i] = names[n - 1];
                    *count -= 1;
                }
            }
            Self::Some(names) => {
                if let Some(i) = names.iter().position(|&other| other == name) {
                    names.swap_remove(i);
                }
            }
            Self::Many(names) => {
                names.remove(&name);
            }
        }
    }

    fn for_each(self, each: impl FnMut(u32)) {
        match self {
            Self::Few { count, names } => names[..usize::from(count)].iter().copied().for_each(each),
            Self::Some(names) => names.into_iter().for_each(each),
            Self::Many(names) => names.into_iter().for_each(each),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_that_are_apart_stay_so() {
        // Beside a list of all pairs that were ever parted.
        let mut state = 9u64;
        let mut random = |n: u64| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            ((state >> 33) % n) as u32
        };
        for members in [6, 40, 300] {
            let mut sets = ApartSets::new(members);
            let mut names: Vec<u32> = (0..members).collect();
            let mut parted: Vec<(u32, u32)> = Vec::new();
            for _ in 0..6 * members {
                let (p, q) = (random(u64::from(members)), random(u64::from(members)));
                let (a, b) = (names[p as usize], names[q as usize]);
                if random(3) == 0 {
                    sets.join(p, q);
                    let apart = |&(x, y): &(u32, u32)| {
                        let pair = (names[x as usize], names[y as usize]);
                        pair == (a, b) || pair == (b, a)
                    };
                    if !parted.iter().any(apart) {
                        names
                            .iter_mut()
                            .filter(|name| **name == b)
                            .for_each(|name| *name = a);
                    }
                } else {
                    sets.part(p, q);
                    if a != b {
                        parted.push((p, q));
                    }
                }
                for (p, q) in (0..members).zip(1..members) {
                    assert_eq!(
                        sets.find(p) == sets.find(q),
                        names[p as usize] == names[q as usize]
                    );
                }
            }
        }
    }
}
