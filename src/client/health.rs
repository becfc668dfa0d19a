//! Which node the next request goes to, as pure state: round robin over nodes that answer, and rest, growing with each
//! failure, for a node that did not. A request is never refused: when all nodes rest, the one rested longest is tried.

use std::time::{Duration, Instant};

const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// What is known of each node.
#[derive(Debug)]
pub(super) struct Health {
    nodes: Vec<Node>,
    next: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    resting: Option<Rest>,
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    since: Instant,
    length: Duration,
}

impl Health {
    /// `nodes` nodes (at least one), all of them well.
    pub(super) fn new(nodes: usize) -> Self {
        Self { nodes: vec![Node::default(); nodes.max(1)], next: 0 }
    }

    /// The node to use now.
    pub(super) fn choose(&mut self, now: Instant) -> usize {
        let count = self.nodes.len();
        let in_turn = (0..count).map(|step| (self.next + step) % count);
        let rested = |&node: &usize| self.nodes[node].resting.is_none_or(|rest| now >= rest.since + rest.length);
        let chosen = in_turn
            .clone()
            .find(rested)
            .or_else(|| in_turn.min_by_key(|&node| self.nodes[node].resting.map(|rest| rest.since)))
            .unwrap_or(0);
        self.next = (chosen + 1) % count;
        chosen
    }

    /// `node` answered, whatever it said.
    pub(super) fn answered(&mut self, node: usize) {
        self.nodes[node].resting = None;
    }

    /// `node` did not answer; it rests twice as long as the last time.
    pub(super) fn failed(&mut self, node: usize, now: Instant) {
        let length = match self.nodes[node].resting {
            // Requests that were on their way together fail together: that is one failure.
            Some(rest) if now < rest.since + rest.length => rest.length,
            Some(rest) => (rest.length * 2).min(LONGEST_REST),
            None => FIRST_REST,
        };
        self.nodes[node].resting = Some(Rest { since: now, length });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn healthy_nodes_take_turns() {
        let mut health = Health::new(3);
        let now = Instant::now();
        let chosen: Vec<_> = (0..6).map(|_| health.choose(now)).collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_failed_node_rests_and_is_tried_again_later() {
        let mut health = Health::new(2);
        let now = Instant::now();
        health.failed(0, now);
        assert_eq!((0..4).map(|_| health.choose(now)).collect::<Vec<_>>(), [1, 1, 1, 1]);
        let later = now + FIRST_REST;
        assert!((0..2).any(|_| health.choose(later) == 0));
    }

    #[test]
    fn rest_grows_with_each_failure_up_to_its_cap_and_ends_with_an_answer() {
        let mut health = Health::new(1);
        let mut now = Instant::now();
        let mut lengths = Vec::new();
        for _ in 0..9 {
            health.failed(0, now);
            let length = health.nodes[0].resting.expect("resting").length;
            lengths.push(length.as_secs());
            now += length;
        }
        assert_eq!(lengths, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        health.answered(0);
        assert!(health.nodes[0].resting.is_none());
    }

    #[test]
    fn failures_of_requests_sent_together_count_once() {
        let mut health = Health::new(1);
        let now = Instant::now();
        for _ in 0..8 {
            health.failed(0, now);
        }
        assert_eq!(health.nodes[0].resting.expect("resting").length, FIRST_REST);
    }

    #[test]
    fn when_all_rest_the_one_rested_longest_is_tried() {
        let mut health = Health::new(3);
        let now = Instant::now();
        health.failed(1, now);
        health.failed(2, now + Duration::from_millis(1));
        health.failed(0, now + Duration::from_millis(2));
        assert_eq!(health.choose(now + Duration::from_millis(3)), 1);
    }
}
