package record

// Stats is the state of a recorder, for metrics and the health page. The counts are since its start.
type Stats struct {
	Queued       int    // events waiting
	QueuedBytes  int64  // that they take
	Recorded     uint64 // events written
	Duplicates   uint64 // events that had been written before
	Dropped      uint64 // events lost because the queue was full or the archive away at shutdown
	Failed       uint64 // writes that failed, each tried again
	Pruned       uint64 // events removed as too old or too many
	ArchiveBytes int64  // size on disk; −1 if it cannot be told
	Err          error  // why events cannot be written or removed now; nil when all is well
}

// Stats returns the present state.
func (r *Recorder) Stats() Stats {
	s := Stats{
		Queued: len(r.queue), QueuedBytes: r.bytes.Load(),
		Recorded: r.recorded.Load(), Duplicates: r.duplicates.Load(), Dropped: r.dropped.Load(),
		Failed: r.failed.Load(), Pruned: r.pruned.Load(),
		Err: r.writing.Err(),
	}
	if s.Err == nil {
		s.Err = r.pruning.Err()
	}
	var err error
	if s.ArchiveBytes, err = r.archive.Size(); err != nil {
		s.ArchiveBytes = -1
	}
	return s
}
