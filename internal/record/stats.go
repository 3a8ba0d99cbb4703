package record

// Stats is the state of a recorder, for metrics and the health page. The counts are since its start.
type Stats struct {
	Queued      int    // events waiting
	QueuedBytes int64  // that they take
	Recorded    uint64 // events written, transient ones apart
	Observed    uint64 // transient events handed over
	Duplicates  uint64 // events that had been written before
	Dropped     uint64 // events lost because the queue was full or the sink away at shutdown
	Unobserved  uint64 // plainly allowed requests that nobody looked at, for the same reasons
	Failed      uint64 // writes that failed, each tried again
	Err         error  // why events cannot be written now; nil when all is well
}

// Stats returns the present state.
func (r *Recorder) Stats() Stats {
	return Stats{
		Queued: len(r.queue), QueuedBytes: r.bytes.Load(),
		Recorded: r.recorded.Load(), Observed: r.observed.Load(), Duplicates: r.duplicates.Load(),
		Dropped: r.dropped.Load(), Unobserved: r.unobserved.Load(), Failed: r.failed.Load(),
		Err: r.writing.Err(),
	}
}
