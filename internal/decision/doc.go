// Package decision keeps the decisions that an edge enforces: time-limited
// statements about addresses, ranges, fingerprints and agents.
//
// A [Set] is the memory that the request path looks into. Look-ups take no lock,
// allocate nothing and see a decision that has expired as gone, whether or not it has been
// swept. A [Log] puts a durable [Store] before a Set: a decision takes effect
// only after it has been made durable, gets an id and a sequence number, and every
// change can be asked for by sequence, so that other edges can follow. [API] serves a
// Log over HTTP and [Client] is its other end. A [Follower] keeps the Set of another process in step with a Log.
//
// Use a Set alone where nothing needs to survive (replay, tests); use a Log
// everywhere else, and then write only through the Log.
//
// Four guards keep a slip from locking readers out. A decision that stops
// anybody is refused on the address of a trusted proxy, whoever asks. One that covers a
// large part of the internet, or an agent name that ordinary browsers send, needs to be
// forced, and so does refusing a fingerprint. What is decided without a person may not deny more than one client, and
// does not touch whom the operator has allowed.
package decision
