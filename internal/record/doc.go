// Package record remembers what the edge did: a bounded queue between the
// request path and the archive, the exact counters, and the API over both.
//
// A request never waits for the archive. [Recorder.Record] puts the event into a
// queue that is bounded by entries and by bytes and drops, counting, when it is full;
// [Recorder.Count] adds to counters that are never sampled nor dropped. [Recorder.Run] writes
// both in batches, tries again when the archive refuses (a full disk), and says so
// once, not once for each batch.
//
// Run must be stopped after the edge, so that the last requests are written.
package record
