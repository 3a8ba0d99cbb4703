// Package embedded keeps the state of one machine's quickthorn in a single
// file, with bbolt: the decisions, and a few settings such as the mode.
//
// Every write is on disk before it returns, so a kill or a power cut loses
// nothing that was acknowledged. Only one process can have the file open: a second one is
// told so after LockTimeout. A damaged file gives errors that wrap
// [ErrCorrupt], never a panic; restore it from a backup (see [DB.Backup]) or remove
// it, and the edge starts without decisions.
package embedded
