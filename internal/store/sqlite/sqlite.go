// Package sqlite keeps the archive of events and cases in one SQLite file: the default
// for one machine.
//
// The file is in WAL mode with synchronous=NORMAL. A batch that Append has
// acknowledged survives the end of the process in any form, kill -9 included. A power cut or a
// crash of the operating system may lose the batches since the last checkpoint, but does not damage
// the file; the archive is a record, and a file sync for each batch is not worth its price on
// a small machine.
//
// One connection writes, a few read, and no reader stops the writer. A file that turns out to be broken is moved aside
// and a new one begun (see [Options.Quarantine]): losing sight of the past is better than not recording the present.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/quickthorn/quickthorn/internal/privacy"
	"github.com/quickthorn/quickthorn/internal/store"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrCorrupt means that the file is damaged or no database at all.
	ErrCorrupt = errors.New("the archive file is broken")
	// ErrFull means that the disk is full.
	ErrFull = errors.New("no space left for the archive")
	// ErrForeign means that the file is a database of another program. It is never touched.
	ErrForeign = errors.New("the file is an SQLite database, but not an archive of quickthorn")
	// ErrNewer means that a newer version of quickthorn wrote the file in a form that this one cannot use.
	ErrNewer = errors.New("the archive was written by a newer quickthorn")
)

// applicationID marks our files in SQLite's header: "QTHN".
const applicationID = 0x5154484e

// Options are the settings of an archive. Now and Log are required.
type Options struct {
	Privacy Privacy
	// Quarantine lets a broken file be moved aside, when it is opened or when a write finds it
	// broken, to PATH.broken-TIME, and a new one begun. Only the newest broken file is kept.
	Quarantine bool
	Now        func() time.Time
	Log        *slog.Logger // told when a file is moved aside
}

// FileName is the name of the archive's file in the data directory.
const FileName = "archive.db"

// Archive is an open archive file. It is safe for concurrent use.
type Archive struct {
	path    string
	o       Options
	privacy *privacy.Masker

	mu    sync.RWMutex // held for reading while files is used, for writing when it is replaced
	files *files
}

var _ store.Archive = (*Archive)(nil)

// files are the connections to one database file.
type files struct {
	w, r                    *sql.DB // one connection, a few connections
	insert, agent, addCount *sql.Stmt
	putCase                 *sql.Stmt
}

// Open opens the archive at path, making the file if there is none, and brings its schema up to date.
// The folder must exist. Errors wrap ErrCorrupt, ErrForeign or ErrNewer where they apply.
func Open(ctx context.Context, path string, o Options) (*Archive, error) {
	if err := o.Privacy.Validate(); err != nil {
		return nil, fmt.Errorf("opening archive %s: %w", path, err)
	}
	a := &Archive{path: path, o: o, privacy: o.Privacy.Masker()}
	var err error
	a.files, err = openFiles(ctx, path, migrations)
	if errors.Is(err, ErrCorrupt) && o.Quarantine {
		err = a.quarantine(ctx, err)
	}
	if err != nil {
		return nil, fmt.Errorf("opening archive %s: %w", path, err)
	}
	return a, nil
}

func openFiles(ctx context.Context, path string, steps []migration) (*files, error) {
	// SQLite would make the file readable by others; it gives its companions the mode of the main file.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	db := &files{}
	if err := db.open(ctx, path, steps, fi.Size() == 0); err != nil {
		return nil, errors.Join(err, db.close())
	}
	return db, nil
}

func (db *files) open(ctx context.Context, path string, steps []migration, isNew bool) error {
	pragmas := []string{"busy_timeout(5000)"}
	if isNew {
		// It must precede the first table and the journal mode. It would write to a file that exists.
		pragmas = append(pragmas, "auto_vacuum(INCREMENTAL)")
	}
	pragmas = append(pragmas, "journal_mode(WAL)", "synchronous(NORMAL)", "secure_delete(FAST)",
		"journal_size_limit(16777216)", "temp_store(MEMORY)", "cache_size(-8192)")
	w, err := connect(path, "_txlock=immediate", pragmas...)
	if err != nil {
		return err
	}
	db.w = w
	w.SetMaxOpenConns(1)
	if err := migrate(ctx, w, steps); err != nil {
		return explain(err)
	}
	if db.r, err = connect(path, "_query_only=1", "busy_timeout(5000)", "temp_store(MEMORY)", "cache_size(-4096)"); err != nil {
		return err
	}
	db.r.SetMaxOpenConns(3)
	db.r.SetMaxIdleConns(1)
	db.r.SetConnMaxIdleTime(time.Minute)
	for _, s := range []struct {
		to  **sql.Stmt
		sql string
	}{{&db.insert, insertEvent}, {&db.agent, insertAgent}, {&db.addCount, addCounter}, {&db.putCase, putCase}} {
		if *s.to, err = w.PrepareContext(ctx, s.sql); err != nil {
			return explain(err)
		}
	}
	// Damage to the first pages of each table shows here; elsewhere it shows when it is met.
	for _, t := range []string{"events", "agents", "counters", "cases"} {
		var n int
		if err := db.r.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT 1 FROM "+t+" LIMIT 1)").Scan(&n); err != nil {
			return explain(err)
		}
	}
	return nil
}

func connect(path, query string, pragmas ...string) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	dsn := "file:" + (&url.URL{Path: abs}).EscapedPath() + "?" + query
	for _, p := range pragmas {
		dsn += "&_pragma=" + url.QueryEscape(p)
	}
	c, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(c), nil
}

func (db *files) close() error {
	var errs []error
	for _, s := range []*sql.Stmt{db.insert, db.agent, db.addCount, db.putCase} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	// Readers first: the last connection to close checkpoints and removes the WAL, which a query_only one cannot.
	for _, d := range []*sql.DB{db.r, db.w} {
		if d != nil {
			errs = append(errs, d.Close())
		}
	}
	return errors.Join(errs...)
}

// Close closes the file. The archive must not be used afterwards.
func (a *Archive) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.files.close(); err != nil {
		return fmt.Errorf("closing archive: %w", err)
	}
	return nil
}

// Ping reads from the file; the error says why that cannot be done.
func (a *Archive) Ping(ctx context.Context) error {
	err := a.read(ctx, "SELECT version FROM schema", nil, func(*sql.Rows) error { return nil })
	if err != nil {
		return fmt.Errorf("reading archive %s: %w", a.path, err)
	}
	return nil
}

// Size returns the bytes that the archive takes on disk: the file and its WAL.
func (a *Archive) Size() (int64, error) {
	fi, err := os.Stat(a.path)
	if err != nil {
		return 0, fmt.Errorf("measuring archive: %w", err)
	}
	n := fi.Size()
	switch fi, err = os.Stat(a.path + "-wal"); {
	case err == nil:
		n += fi.Size()
	case !errors.Is(err, os.ErrNotExist):
		return 0, fmt.Errorf("measuring archive: %w", err)
	}
	return n, nil
}

// Backup writes a consistent copy to dest, which must not exist, while the archive stays in use.
// The copy is complete and on disk when Backup returns nil; otherwise nothing is left at dest.
func (a *Archive) Backup(ctx context.Context, dest string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("backing up archive to %s: %w", dest, err)
		}
	}()
	if _, err := os.Lstat(dest); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(os.ErrExist, err)
	}
	part := dest + ".partial"
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	defer os.Remove(part) // gone already when all went well

	a.mu.RLock()
	defer a.mu.RUnlock()
	// A connection of its own: this one must be able to write, elsewhere, and may take long.
	db, err := connect(a.path, "_txlock=deferred", "busy_timeout(5000)")
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", part); err != nil {
		return explain(err)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	// Link, unlike rename, does not replace what somebody else put there meanwhile.
	if err := os.Link(part, dest); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dest))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// explain wraps an error of SQLite in the one of ours that applies.
func explain(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
