//! Disjoint sets over 0..n.

/// Disjoint sets of the numbers below `n`. A set is named by its smallest member, so that names do not depend
/// on the order of the unions. Paths are halved on the way (Tarjan and van Leeuwen 1984).
#[derive(Debug, Clone, Default)]
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

    /// The sets of trees: `parent` leads from each member to its name, which leads to itself.
    pub(crate) fn from_parents(parent: Vec<u32>) -> Self {
        Self { parent }
    }

    /// How many members there are.
    pub(crate) fn len(&self) -> u32 {
        self.parent.len() as u32
    }

    /// Adds so many sets of one number each, and returns the first of them.
    pub(crate) fn grow(&mut self, count: u32) -> u32 {
        let begin = self.len();
        self.parent.extend(begin..begin + count);
        begin
    }

    /// Adds a number to the set named `name`: one of its own, if that is the number.
    #[inline]
    pub(crate) fn push(&mut self, name: u32) {
        self.parent.push(name);
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
        let above = [a, b].map(|member| self.parent[member as usize]);
        if above[0] == above[1] {
            return self.find(above[0]);
        }
        let [one, other] = above.map(|member| self.find(member));
        let (low, high) = (one.min(other), one.max(other));
        self.join(high, low);
        // What is asked about next is most often one of the two.
        self.join(a, low);
        self.join(b, low);
        low
    }

    /// For each member the name of its set.
    pub(crate) fn into_names(mut self) -> Vec<u32> {
        // Most ways end within these two rounds, which wait for no answer before they ask the next question.
        for member in (0..self.parent.len()).chain((0..self.parent.len()).rev()) {
            self.parent[member] = self.parent[self.parent[member] as usize];
        }
        for member in 0..self.parent.len() {
            self.parent[member] = self.find(member as u32);
        }
        self.parent
    }

    /// For each member the number of its set, from 1, in the order of their names. Only of sets that were made by
    /// [`union`](Self::union): it puts none below a larger member.
    pub(crate) fn into_numbers(self) -> Vec<u32> {
        let mut numbers = self.parent;
        let mut count = 0;
        for member in 0..numbers.len() {
            let parent = numbers[member] as usize;
            debug_assert!(parent <= member);
            numbers[member] = if parent == member {
                count += 1;
                count
            } else {
                numbers[parent]
            };
        }
        numbers
    }

    /// Puts the set named `under` below the one named `name`, which keeps its name whatever its members are.
    #[inline]
    pub(crate) fn join(&mut self, under: u32, name: u32) {
        self.parent[under as usize] = name;
    }
}
