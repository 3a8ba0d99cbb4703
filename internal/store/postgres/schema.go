package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// migration is one step of the tables. Steps are only ever added at the end, and only add: columns with a
// default, tables, indexes. A new name of an action, a kind or the like needs a step too. A step that older programs cannot live with raises oldest.
type migration struct {
	// oldest is the oldest version whose program can use tables with this step applied. As long as it is at least
	// one behind, programs of two neighbouring versions can use one archive, as they do during an upgrade.
	oldest int
	sql    string
}

// migrations are the steps from an empty schema; the version is the number of steps.
var migrations = []migration{
	{oldest: 1, sql: `
CREATE TABLE events (
	time     timestamptz NOT NULL,
	id       text COLLATE "C" NOT NULL,
	request  text COLLATE "C" NOT NULL, -- the request's id
	event    text COLLATE "C" NOT NULL, -- kind of event
	site     text COLLATE "C" NOT NULL,
	client   bytea NOT NULL,            -- 4 or 16 bytes of address, 8 of hash, none if unknown
	prefix   bytea NOT NULL,            -- 3 bytes for a /24, 6 for a /48, 8 of hash, none if unknown
	action   text COLLATE "C" NOT NULL,
	intended text COLLATE "C" NOT NULL,
	score    integer NOT NULL,
	rule     text COLLATE "C" NOT NULL,
	kind     text COLLATE "C" NOT NULL, -- kind of request
	family   text COLLATE "C" NOT NULL, -- of the agent
	harm     text COLLATE "C" NOT NULL, -- what reader it looks like if it was or would have been stopped, else ''
	crawler  text COLLATE "C" NOT NULL,
	identity text COLLATE "C" NOT NULL,
	status   integer NOT NULL,
	bytes    bigint NOT NULL,
	duration bigint NOT NULL,           -- microseconds
	agent    bigint NOT NULL,           -- agents.id
	method   text COLLATE "C" NOT NULL,
	host     text COLLATE "C" NOT NULL,
	path     text COLLATE "C" NOT NULL,
	query    text COLLATE "C" NOT NULL,
	details  text COLLATE "C" NOT NULL  -- JSON of all the rest
) PARTITION BY RANGE (time);
CREATE UNIQUE INDEX events_time ON events (time, id); -- order, retention and idempotency
CREATE INDEX events_client ON events (client, time);
CREATE INDEX events_action ON events (action, time);
CREATE INDEX events_harm ON events (time) WHERE harm <> '';
CREATE TABLE events_rest PARTITION OF events DEFAULT;
-- Their texts go with the day, so that nothing has to keep account of who still uses them.
CREATE TABLE agents (
	day  integer NOT NULL, -- since 1970-01-01, UTC
	id   bigint NOT NULL,  -- the first 63 bits of the text's SHA-256
	text text COLLATE "C" NOT NULL,
	PRIMARY KEY (day, id)
) PARTITION BY RANGE (day);
CREATE TABLE agents_rest PARTITION OF agents DEFAULT;
CREATE TABLE counters (
	hour     timestamptz NOT NULL,
	site     text COLLATE "C" NOT NULL,
	action   text COLLATE "C" NOT NULL,
	intended text COLLATE "C" NOT NULL,
	count    bigint NOT NULL,
	PRIMARY KEY (hour, site, action, intended)
);
CREATE TABLE cases (
	id      text COLLATE "C" PRIMARY KEY,
	kind    text COLLATE "C" NOT NULL,
	key     text COLLATE "C" NOT NULL, -- as the privacy settings let it be kept
	site    text COLLATE "C" NOT NULL,
	last    timestamptz NOT NULL,      -- seen
	score   double precision NOT NULL,
	outcome text COLLATE "C" NOT NULL,
	label   text COLLATE "C" NOT NULL,
	client  bytea NOT NULL,            -- of a client's case, like that of events
	prefix  bytea NOT NULL,
	body    jsonb NOT NULL             -- the whole case
);
CREATE INDEX cases_last ON cases (last, id);
CREATE INDEX cases_key ON cases (key);
CREATE INDEX cases_client ON cases (client);
CREATE TABLE counted (
	id text COLLATE "C" PRIMARY KEY -- ULID of a set of counters that was added
);
`},
	{oldest: 1, sql: `
CREATE TABLE artifacts (
	kind    text COLLATE "C" NOT NULL,
	name    text COLLATE "C" NOT NULL,
	version bigint NOT NULL,
	size    bigint NOT NULL,
	sha256  text COLLATE "C" NOT NULL,
	time    timestamptz NOT NULL,
	note    text NOT NULL,
	PRIMARY KEY (kind, name, version)
);
CREATE TABLE artifact_parts (
	kind    text COLLATE "C" NOT NULL,
	name    text COLLATE "C" NOT NULL,
	version bigint NOT NULL,
	part    integer NOT NULL,
	body    bytea NOT NULL,
	PRIMARY KEY (kind, name, version, part)
);
`},
}

// lockKey is the advisory lock of whoever changes the tables: "QTHN" and the number of what is locked.
const lockKey = 0x5154484e << 8

// migrate brings the tables to the version of the last step, in one transaction, while others wait.
func migrate(ctx context.Context, c *pgx.Conn, steps []migration) error {
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		var encoding string
		if err := tx.QueryRow(ctx, "SELECT current_setting('server_encoding')").Scan(&encoding); err != nil {
			return err
		}
		if encoding != "UTF8" {
			return fmt.Errorf("the database's encoding is %s: the archive needs one made with ENCODING 'UTF8'", encoding)
		}
		version, oldest, err := readVersion(ctx, tx)
		if err == nil && version < len(steps) {
			if err := lockTables(ctx, tx); err != nil {
				return err
			}
			// Somebody else may have done it meanwhile.
			version, oldest, err = readVersion(ctx, tx)
		}
		if err != nil {
			return err
		}
		if oldest > len(steps) {
			return fmt.Errorf("%w: its version %d needs a program that knows at least %d, this one knows %d: run the newer version, or restore the backup made before the upgrade",
				ErrNewer, version, oldest, len(steps))
		}
		if version == 0 && len(steps) > 0 {
			if err := begin(ctx, tx); err != nil {
				return err
			}
		}
		for ; version < len(steps); version++ {
			s := steps[version]
			if _, err := tx.Conn().PgConn().Exec(ctx, s.sql).ReadAll(); err != nil {
				return fmt.Errorf("bringing the tables to version %d: %w", version+1, err)
			}
			if _, err := tx.Exec(ctx, "INSERT INTO schema (version, oldest) VALUES ($1, $2)", version+1, s.oldest); err != nil {
				return fmt.Errorf("recording version %d of the tables: %w", version+1, err)
			}
		}
		return nil
	})
}

// lockTables waits until nobody else changes the tables; the lock goes with the transaction.
func lockTables(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = "+millis(migrateTime)); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = "+millis(migrateTime)); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(lockKey))
	var e *pgconn.PgError
	if errors.As(err, &e) && e.Code == "55P03" {
		return fmt.Errorf("another program has been changing the archive's tables for %s: %w", migrateTime, err)
	}
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "SET LOCAL lock_timeout = "+millis(lockTime))
	return err
}

// readVersion returns the version of the tables, 0 when there are none, and the oldest version whose program can use them.
func readVersion(ctx context.Context, tx pgx.Tx) (version, oldest int, err error) {
	var ours, tables bool
	err = tx.QueryRow(ctx, `SELECT count(*) FILTER (WHERE c.relname = 'schema') > 0, count(*) > 0
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1`, Schema).Scan(&ours, &tables)
	switch {
	case err != nil:
		return 0, 0, err
	case ours:
		err = tx.QueryRow(ctx, "SELECT version, oldest FROM "+Schema+".schema ORDER BY version DESC LIMIT 1").Scan(&version, &oldest)
		if err != nil {
			return 0, 0, fmt.Errorf("reading the version of the tables: %w", err)
		}
	case tables:
		return 0, 0, ErrForeign
	}
	return version, oldest, nil
}

// exists reports whether there is such a table. Unlike to_regclass it sees what the transaction sees.
func exists(ctx context.Context, tx pgx.Tx, table string) (there bool, err error) {
	err = tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2)", Schema, table).Scan(&there)
	return there, err
}

// begin makes the schema, which an administrator may have done for a role that is not allowed to, and the table of versions.
func begin(ctx context.Context, tx pgx.Tx) error {
	var there bool
	if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", Schema).Scan(&there); err != nil {
		return err
	}
	if !there {
		if _, err := tx.Exec(ctx, "CREATE SCHEMA "+Schema); err != nil {
			return fmt.Errorf("making the schema %s: %w", Schema, err)
		}
	}
	if _, err := tx.Exec(ctx, "CREATE TABLE schema (version integer PRIMARY KEY, oldest integer NOT NULL)"); err != nil {
		return fmt.Errorf("making the table of versions: %w", err)
	}
	return nil
}
