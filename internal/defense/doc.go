// Package defense holds quickthorn's vocabulary: the words that every other
// package, the configuration, the pages and the documentation share.
//
// It decides nothing and does no I/O. It imports nothing of the project and
// nothing outside the standard library, so that any package may import it.
//
// The life of a request in these words: the edge builds a [Profile] of the
// request; observations about it become [Signal] values with a weight; the
// [Decision] set and the policy turn the profile and its signals into a
// [Verdict]; the verdict and what followed are recorded as an [Event].
//
// Two rules hold everywhere. Unknown is not absent: a [Text] that was not
// observed must never be read as a header that was not sent. And no verdict may
// be taken whose reasons cannot be shown: every signal and rule has a sentence.
package defense
