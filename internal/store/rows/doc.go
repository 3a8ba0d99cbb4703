// Package rows is what the two archives, store/sqlite and store/postgres, have in common: the form in which events and
// cases are stored, and how summaries and pages are put together. A question about the archive has the same answer whatever keeps it.
package rows
