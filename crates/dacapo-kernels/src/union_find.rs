//! Disjoint sets over 0..n.

/// Disjoint sets of the numbers below `n`. A set is named by its smallest member, so that names do not depend
/// on the order of the unions. Paths are halved on the way (Tarjan and van Leeuwen 1984).
#[derive(Debug, Clone)]
pub struct UnionFind {
    parent: Vec<u32>,
}

impl UnionFind {
    /// `n` sets of one number each.
    pub fn new(n: u32) -> Self {
        Self {
            parent: (0..n).collect(),
        }
    }

    /// The name of the set that `member` is in.
    #[inline]
    pub fn find(&mut self, mut member: u32) -> u32 {
        loop {
            let parent = self.parent[member as usize];
            if parent == member {
                return member;
            }
            let above = self.parent[parent as usize];
            self.parent[member as usize] = above;
            member = above;
        }
    }

    /// Makes one set of the two that `a` and `b` are in, and returns its name.
    #[inline]
    pub fn union(&mut self, a: u32, b: u32) -> u32 {
        let (a, b) = (self.find(a), self.find(b));
        let (low, high) = (a.min(b), a.max(b));
        self.join(high, low);
        low
    }

    /// Puts the set named `under` below the one named `name`, which keeps its name whatever its members are.
    #[inline]
    pub(crate) fn join(&mut self, under: u32, name: u32) {
        self.parent[under as usize] = name;
    }
}
