// Package escalation judges cases: is this unwanted automation, how sure is that, and what ought to be done about it?
//
// An [Engine] asks its stages in their order and stops as soon as it is sure. Each stage says a probability, how much
// it counts, and a sentence; the running probability is their sum in log-odds, beginning with a prior. What the sum asks for is
// then held against the evidence, and this is the rule that must never break: no single observation changes a verdict. Observations belong to
// groups (timing, paths, assets, …) that one habit of a client moves together; a challenge needs two groups that point the same way, anything harder needs
// three and something that no reader does. A link that people do not see leads to a challenge by itself and to no more, since
// prefetchers and extensions follow links too.
//
// The engine writes nothing and decides nothing: it proposes, with reasons for people, and whoever owns the decisions carries out. Its
// answer to a case's revision stays the same, apart from times, so that asking again is safe.
//
// [API] serves an engine over HTTP and [Client] is its other end; both are a [Judge].
package escalation
