package decision

// KeepDeletions bounds how many deletions the log remembers, for tests of those who are too far behind.
func (l *Log) KeepDeletions(n int) { l.kept = n }
