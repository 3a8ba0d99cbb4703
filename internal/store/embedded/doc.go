// Package embedded keeps the state of one machine's quickthorn in files of its data
// directory, with bbolt: the decisions and a few settings such as the mode in one ([DB]), the queue of
// events in another ([Queue]). [State] is both, and all that store.State asks for.
//
// Every write is on disk before it returns, so a kill or a power cut loses
// nothing that was acknowledged. Only one process can have the files open: a second one is
// told so after LockTimeout. A damaged file gives errors that wrap
// [ErrCorrupt] or [ErrQueueCorrupt], never a panic; restore the state file from a backup (see [DB.Backup]) or remove
// it, and the edge starts without decisions.
package embedded
