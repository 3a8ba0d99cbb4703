// Package intake takes events from every edge and, by webhook, from other web servers; keeps what it has acknowledged; groups
// it into cases; has the escalation engine judge them; and turns its proposals into decisions.
//
//	edge ──POST /v1/events──┐
//	other server ─webhook───┼─► Accept ─► queue (durable) ─► archive
//	edge in this process ───┘     └─► casebook ─► judge ─► decision log ─► edges
//
// An event is acknowledged when the queue has it, which survives a crash; it stays there until the archive has it
// (at least once: the event's id makes that exactly once in the archive). The casebook looks at events as they come, so
// that neither a slow archive nor a full queue makes the defence blind; a batch that cannot be read, or that the archive refuses while it
// takes others, becomes a dead letter. After a restart the casebook sees what is still queued, and what the archive has of the last hour.
package intake
