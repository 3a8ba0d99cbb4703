// Package record remembers what the edge did: a bounded queue between the
// request path and the intake or the archive, the exact counters, and the API over both.
//
// A request never waits for either. [Recorder.Record] puts the event into a
// queue that is bounded by entries and by bytes and drops, counting, when it is full;
// [Recorder.Count] adds to counters that are never sampled nor dropped. [Recorder.Run] writes
// both to a [Sink] in batches, tries again when that refuses (a full disk, a service away), and says so
// once, not once for each batch. A [Pruner] keeps an archive within its limits.
//
// Run must be stopped after the edge, so that the last requests are written.
package record
