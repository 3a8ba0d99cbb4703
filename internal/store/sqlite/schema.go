package sqlite

import (
	"context"
	"database/sql"
	"fmt"
)

// migration is one step of the schema. Steps are only ever added at the end, and only add: columns with a
// default, tables, indexes. A new name of an action, a kind or the like needs a step too. A step that older programs cannot live with raises oldest.
type migration struct {
	// oldest is the oldest schema version whose program can use a file with this step
	// applied. As long as it is at least one behind, an upgrade can be rolled back by one
	// version by starting the program of before.
	oldest int
	sql    string
}

// migrations are the steps from an empty file; the version of a schema is the number of steps.
var migrations = []migration{
	{oldest: 1, sql: `
CREATE TABLE events (
	seq      INTEGER PRIMARY KEY,
	time     INTEGER NOT NULL, -- Unix milliseconds
	id       ANY NOT NULL,     -- ULID as 16 bytes, any other as text
	request  ANY NOT NULL,     -- the request's id, likewise
	event    TEXT NOT NULL,    -- kind of event
	site     TEXT NOT NULL,
	client   BLOB NOT NULL,    -- 4 or 16 bytes of address, 8 of hash, none if unknown
	prefix   BLOB NOT NULL,    -- 3 bytes for a /24, 6 for a /48, 8 of hash, none if unknown
	action   TEXT NOT NULL,
	intended TEXT NOT NULL,
	score    INTEGER NOT NULL,
	rule     TEXT NOT NULL,
	kind     TEXT NOT NULL,    -- kind of request
	family   TEXT NOT NULL,    -- of the agent
	harm     TEXT NOT NULL,    -- what reader it looks like if it was or would have been stopped, else ''
	crawler  TEXT NOT NULL,
	identity TEXT NOT NULL,
	status   INTEGER NOT NULL,
	bytes    INTEGER NOT NULL,
	duration INTEGER NOT NULL, -- microseconds
	agent    INTEGER NOT NULL, -- agents.id
	method   TEXT NOT NULL,
	host     TEXT NOT NULL,
	path     TEXT NOT NULL,
	query    TEXT NOT NULL,
	details  TEXT NOT NULL     -- JSON of all the rest
) STRICT;
CREATE UNIQUE INDEX events_time ON events (time, id); -- order, retention and idempotency
CREATE INDEX events_client ON events (client, time);
CREATE INDEX events_action ON events (action, time);
CREATE INDEX events_harm ON events (time) WHERE harm <> '';
CREATE TABLE agents (
	id   INTEGER PRIMARY KEY, -- the first 63 bits of the text's SHA-256
	last INTEGER NOT NULL,    -- minute since 1970 of the newest event with it
	text TEXT NOT NULL
) STRICT;
CREATE INDEX agents_last ON agents (last);
CREATE TABLE counters (
	hour     INTEGER NOT NULL, -- since 1970
	site     TEXT NOT NULL,
	action   TEXT NOT NULL,
	intended TEXT NOT NULL,
	count    INTEGER NOT NULL,
	PRIMARY KEY (hour, site, action, intended)
) STRICT, WITHOUT ROWID;
`},
	{oldest: 1, sql: `
CREATE TABLE cases (
	id      TEXT PRIMARY KEY,
	kind    TEXT NOT NULL,
	key     TEXT NOT NULL,    -- as the privacy settings let it be kept
	site    TEXT NOT NULL,
	last    INTEGER NOT NULL, -- last seen, Unix milliseconds
	score   REAL NOT NULL,
	outcome TEXT NOT NULL,
	label   TEXT NOT NULL,
	client  BLOB NOT NULL,    -- of a client's case, like that of events
	prefix  BLOB NOT NULL,
	body    TEXT NOT NULL     -- JSON of the whole case
) STRICT;
CREATE INDEX cases_last ON cases (last, id);
CREATE INDEX cases_key ON cases (key);
CREATE INDEX cases_client ON cases (client);
CREATE TABLE counted (
	id TEXT PRIMARY KEY -- ULID of a set of counters that was added
) STRICT, WITHOUT ROWID;
`},
	{oldest: 1, sql: `
CREATE TABLE artifacts (
	kind    TEXT NOT NULL,
	name    TEXT NOT NULL,
	version INTEGER NOT NULL,
	size    INTEGER NOT NULL,
	sha256  TEXT NOT NULL,
	time    INTEGER NOT NULL, -- Unix milliseconds
	note    TEXT NOT NULL,
	PRIMARY KEY (kind, name, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE artifact_parts (
	kind    TEXT NOT NULL,
	name    TEXT NOT NULL,
	version INTEGER NOT NULL,
	part    INTEGER NOT NULL,
	body    BLOB NOT NULL,
	PRIMARY KEY (kind, name, version, part)
) STRICT;
`},
}

// migrate brings the database to the version of the last step, in one transaction.
func migrate(ctx context.Context, db *sql.DB, steps []migration) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // without effect after a commit
	var id, tables int
	if err := tx.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return err
	}
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return err
	}
	version, oldest := 0, 0
	switch {
	case id == applicationID:
		err := tx.QueryRowContext(ctx, "SELECT version, oldest FROM schema ORDER BY version DESC LIMIT 1").Scan(&version, &oldest)
		if err != nil {
			return fmt.Errorf("reading the schema's version: %w", err)
		}
	case id != 0 || tables > 0:
		return ErrForeign
	}
	if oldest > len(steps) {
		return fmt.Errorf("%w: its schema %d needs a program that knows at least %d, this one knows %d: run the newer version, or restore the backup made before the upgrade",
			ErrNewer, version, oldest, len(steps))
	}
	if version >= len(steps) {
		return nil
	}
	if version == 0 {
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; CREATE TABLE schema (version INTEGER PRIMARY KEY, oldest INTEGER NOT NULL) STRICT", applicationID)); err != nil {
			return fmt.Errorf("marking the file: %w", err)
		}
	}
	for ; version < len(steps); version++ {
		s := steps[version]
		if _, err := tx.ExecContext(ctx, s.sql); err != nil {
			return fmt.Errorf("bringing the schema to version %d: %w", version+1, err)
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO schema (version, oldest) VALUES (?, ?)", version+1, s.oldest); err != nil {
			return fmt.Errorf("recording schema version %d: %w", version+1, err)
		}
	}
	return tx.Commit()
}
