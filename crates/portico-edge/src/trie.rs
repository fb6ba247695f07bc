//! Routes by the segments of their paths: which of them match a path, the most specific first.
//!
//! A look-up visits one node for each segment of the path, and beside them those of patterns that match it. So its
//! cost depends on the path, not on the number of routes, and no pattern makes it more than the number of nodes.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::pattern::{Captures, Segment, segments};

/// The routes of one host.
#[derive(Debug, Default)]
pub(crate) struct Trie {
    nodes: Vec<TrieNode>,
    /// Some of them are for exact paths.
    has_exact: bool,
}

#[derive(Debug, Default)]
struct TrieNode {
    /// Only the configuration puts segments in, so no client can make many with the same hash.
    children: HashMap<Box<[u8]>, u32, RandomState>,
    /// Captures of a segment, the most specific first.
    patterns: Vec<(Segment, u32)>,
    /// Routes for this path alone.
    exact: Vec<u32>,
    /// Routes for this path and those below it.
    prefix: Vec<u32>,
    /// Routes for all that is below it, which capture it: their capture's name and number.
    rest: Vec<(String, u32)>,
}

/// A route that matches, and what it has captured.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Match {
    pub route: u32,
    pub captures: Captures,
}

impl Trie {
    /// Adds a route for `path`, which is empty for all paths, and those below it. Routes that are added first
    /// count before others of the same path.
    pub(crate) fn add_prefix(&mut self, path: &str, route: u32) {
        let mut node = self.root();
        for segment in path.split('/').skip(1) {
            node = self.child(node, &Segment::Literal(segment.as_bytes().into()));
        }
        self.nodes[node].prefix.push(route);
    }

    /// Adds a route for an exact path.
    pub(crate) fn add_exact(&mut self, path: &str, route: u32) {
        self.has_exact = true;
        let mut node = self.root();
        for segment in segments(path) {
            if let Segment::Rest { name } = segment {
                self.nodes[node].rest.push((name, route));
                return;
            }
            node = self.child(node, &segment);
        }
        self.nodes[node].exact.push(route);
    }

    fn root(&mut self) -> usize {
        if self.nodes.is_empty() {
            self.nodes.push(TrieNode::default());
        }
        0
    }

    fn child(&mut self, node: usize, segment: &Segment) -> usize {
        let known = match segment {
            Segment::Literal(bytes) => self.nodes[node].children.get(bytes),
            // By its whole self, so that each route's captures have the names that it gives them.
            pattern => self.nodes[node].patterns.iter().find(|(other, _)| other == pattern).map(|(_, at)| at),
        };
        if let Some(known) = known {
            return *known as usize;
        }
        let new = self.nodes.len();
        self.nodes.push(TrieNode::default());
        let parent = &mut self.nodes[node];
        match segment {
            Segment::Literal(bytes) => {
                parent.children.insert(bytes.clone(), new as u32);
            }
            pattern => {
                let before = parent.patterns.partition_point(|(other, _)| other.rank() >= pattern.rank());
                parent.patterns.insert(before, (pattern.clone(), new as u32));
            }
        }
        new
    }

    /// The most specific route for `path`, which begins with `/`, among those that `takes` takes.
    pub(crate) fn find(&self, path: &[u8], takes: &dyn Fn(u32) -> bool) -> Option<Match> {
        let root = self.nodes.first()?;
        let mut captures = Captures::new();
        if self.has_exact
            && let Some(route) = self.exact(root, path, 1, takes, &mut captures)
        {
            return Some(Match { route, captures });
        }
        self.prefix(root, path, takes).map(|route| Match { route, captures: Captures::new() })
    }

    /// An exact route, of which the segments before `start` have led to `node`.
    fn exact(
        &self,
        node: &TrieNode,
        path: &[u8],
        start: usize,
        takes: &dyn Fn(u32) -> bool,
        captures: &mut Captures,
    ) -> Option<u32> {
        if start > path.len() {
            return node.exact.iter().copied().find(|route| takes(*route));
        }
        let end = memchr::memchr(b'/', &path[start..]).map_or(path.len(), |length| start + length);
        let segment = &path[start..end];
        if let Some(child) = node.children.get(segment)
            && let found @ Some(_) = self.exact(self.node(*child), path, end + 1, takes, captures)
        {
            return found;
        }
        for (pattern, child) in &node.patterns {
            let (Some(range), Segment::Capture { name, .. }) = (pattern.captured(segment), pattern) else {
                continue;
            };
            captures.push((name.clone(), start + range.start..start + range.end));
            if let found @ Some(_) = self.exact(self.node(*child), path, end + 1, takes, captures) {
                return found;
            }
            captures.pop();
        }
        let (name, route) = node.rest.iter().find(|(_, route)| takes(*route))?;
        captures.push((name.clone(), start..path.len()));
        Some(*route)
    }

    /// The longest prefix.
    fn prefix(&self, root: &TrieNode, path: &[u8], takes: &dyn Fn(u32) -> bool) -> Option<u32> {
        let taken = |node: &TrieNode| node.prefix.iter().copied().find(|route| takes(*route));
        let mut longest = taken(root);
        let mut node = root;
        for segment in path.get(1..).unwrap_or_default().split(|byte| *byte == b'/') {
            let Some(child) = node.children.get(segment) else { break };
            node = self.node(*child);
            longest = taken(node).or(longest);
        }
        longest
    }

    fn node(&self, index: u32) -> &TrieNode {
        &self.nodes[index as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trie(prefixes: &[&str], exact: &[&str]) -> Trie {
        let mut trie = Trie::default();
        for (index, path) in prefixes.iter().enumerate() {
            trie.add_prefix(path, index as u32);
        }
        for (index, path) in exact.iter().enumerate() {
            trie.add_exact(path, 100 + index as u32);
        }
        trie
    }

    fn found(trie: &Trie, path: &str) -> Option<u32> {
        trie.find(path.as_bytes(), &|_| true).map(|found| found.route)
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        let trie = trie(&["", "/shop", "/shop/cart"], &[]);
        for (path, route) in [
            ("/", 0),
            ("/shopping", 0),
            ("/shop", 1),
            ("/shop/", 1),
            ("/shop/x", 1),
            ("/shop/cart", 2),
            ("/shop/cart/x/y", 2),
            ("/shop/carts", 1),
        ] {
            assert_eq!(found(&trie, path), Some(route), "{path}");
        }
    }

    #[test]
    fn exact_counts_before_the_longest_prefix_and_the_literal_before_captures() {
        let trie = trie(
            &["", "/blog"],
            &["/blog/{slug}", "/blog/new", "/blog/{slug}.html", "/blog/{y}/{m}", "/old/{rest…}", "/blog/"],
        );
        for (path, route) in [
            ("/blog", 1),
            ("/blog/", 105),
            ("/blog/x", 100),
            ("/blog/new", 101),
            ("/blog/x.html", 102),
            ("/blog/.html", 100),
            ("/blog/1/2", 103),
            ("/blog/1/2/3", 1),
            ("/old", 0),
            ("/old/", 104),
            ("/old/a/b", 104),
        ] {
            assert_eq!(found(&trie, path), Some(route), "{path}");
        }
        let captures = |path: &[u8]| trie.find(path, &|_| true).unwrap().captures;
        assert_eq!(captures(b"/blog/1/23"), [("y".to_owned(), 6..7), ("m".to_owned(), 8..10)]);
        assert_eq!(captures(b"/old/a/b"), [("rest".to_owned(), 5..8)]);
        assert_eq!(captures(b"/blog"), []);
    }

    #[test]
    fn what_is_not_taken_leaves_the_next() {
        let trie = trie(&["", "/a"], &["/a/b", "/a/{x}"]);
        let without = |routes: &[u32]| {
            trie.find(b"/a/b", &|route| !routes.contains(&route))
                .map(|found| (found.route, found.captures.len()))
        };
        assert_eq!(without(&[]), Some((100, 0)));
        assert_eq!(without(&[100]), Some((101, 1)));
        assert_eq!(without(&[100, 101]), Some((1, 0)));
        assert_eq!(without(&[100, 101, 1, 0]), None);
        assert_eq!(Trie::default().find(b"/a", &|_| true), None);
    }

    proptest! {
        /// The trie finds what trying all prefixes finds.
        #[test]
        fn the_longest_prefix_is_found(
            prefixes in prop::collection::btree_set("(/[ab]{1,2}){0,3}", 1..8),
            path in "(/[ab]{1,2}){1,4}/?",
        ) {
            let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
            let covers = |prefix: &str| {
                path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            let expected = (0..prefixes.len())
                .filter(|index| covers(prefixes[*index]))
                .max_by_key(|index| prefixes[*index].len())
                .map(|index| index as u32);
            prop_assert_eq!(found(&trie(&prefixes, &[]), &path), expected);
        }
    }
}
