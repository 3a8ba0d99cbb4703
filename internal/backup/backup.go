// Package backup copies a data directory into one tar file and puts it back.
//
// A backup is written beside its name and renamed when it is complete and on
// disk; a restore is unpacked beside the data directory, checked, and swapped in, so that
// neither leaves half of anything.
package backup

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/quickthorn/quickthorn/internal/clearance"
	"github.com/quickthorn/quickthorn/internal/private"
	"github.com/quickthorn/quickthorn/internal/store/embedded"
	"github.com/quickthorn/quickthorn/internal/store/sqlite"
)

// Files are the names in a backup: stores first, then keys. Any may be missing.
var files = []string{embedded.FileName, sqlite.FileName, clearance.KeyFile, clearance.KeyFile + clearance.PreviousSuffix, clearance.KeyFile + clearance.NextSuffix, private.KeyFile, sqlite.PrivacyKeyFile}

// Source gives the tar of a data directory.
type Source interface {
	WriteBackup(ctx context.Context, w io.Writer) error
}

// Write makes a backup file. The file can be read by its owner only: it holds keys.
func Write(ctx context.Context, name string, s Source) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".quickthorn-backup-*")
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := s.WriteBackup(ctx, f); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	// A stream that broke off must not become a backup: the end of the tar is looked for.
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := read(f, func(string, io.Reader) error { return nil }); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return os.Rename(f.Name(), name)
}

// Stores are the open stores of a running install, Dir its data directory.
type Stores struct {
	Dir     string
	State   *embedded.DB
	Archive *sqlite.Archive // nil if there is none
}

// WriteBackup writes a consistent copy while the stores are in use.
func (s *Stores) WriteBackup(ctx context.Context, w io.Writer) error {
	tmp, err := os.MkdirTemp(s.Dir, ".backup-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	f, err := os.OpenFile(filepath.Join(tmp, embedded.FileName), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(s.State.Backup(ctx, f), f.Close()); err != nil {
		return err
	}
	if s.Archive != nil {
		if err := s.Archive.Backup(ctx, filepath.Join(tmp, sqlite.FileName)); err != nil {
			return err
		}
	}
	t := tar.NewWriter(w)
	for _, name := range files {
		dir := s.Dir
		if name == embedded.FileName || name == sqlite.FileName {
			dir = tmp
		}
		if err := add(ctx, t, filepath.Join(dir, name), name); err != nil {
			return err
		}
	}
	return errors.Join(add(ctx, t, "", endMark), t.Close())
}

// endMark is an empty last entry. A tar that was cut off at an entry's edge lacks it.
const endMark = "complete"

func add(ctx context.Context, t *tar.Writer, path, name string) error {
	h := &tar.Header{Name: name, Mode: 0o600, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	if path == "" {
		return t.WriteHeader(h)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	h.Size, h.ModTime = fi.Size(), fi.ModTime().Truncate(time.Second)
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	if _, err := io.CopyN(t, f, h.Size); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return ctx.Err()
}

// Directory is a data directory that is not in use.
type Directory string

// WriteBackup opens the stores, so that two programs cannot be at them, and copies them.
func (d Directory) WriteBackup(ctx context.Context, w io.Writer) (err error) {
	dir := string(d)
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	s := Stores{Dir: dir}
	if s.State, err = embedded.Open(ctx, filepath.Join(dir, embedded.FileName)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.State.Close()) }()
	path := filepath.Join(dir, sqlite.FileName)
	if _, e := os.Stat(path); e == nil {
		// Privacy does not matter: nothing is written. Nor is a broken file moved aside.
		o := sqlite.Options{Privacy: sqlite.Privacy{KeepQuery: true}, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
		if s.Archive, err = sqlite.Open(ctx, path, o); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Archive.Close()) }()
	}
	return s.WriteBackup(ctx, w)
}

// read calls fn for each file of a backup and checks that the backup is complete.
func read(r io.Reader, fn func(name string, r io.Reader) error) error {
	t := tar.NewReader(r)
	complete, state := false, false
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			return fmt.Errorf("not a backup, or a damaged one: %w", err)
		}
		switch {
		case h.Name == endMark:
			complete = true
		case !slices.Contains(files, h.Name) || h.Typeflag != tar.TypeReg:
			return fmt.Errorf("not a backup: it holds %q", h.Name)
		default:
			state = state || h.Name == embedded.FileName
			if err := fn(h.Name, t); err != nil {
				return fmt.Errorf("%s: %w", h.Name, err)
			}
		}
	}
	if !complete {
		return errors.New("the backup is cut off")
	}
	if !state {
		return fmt.Errorf("not a backup: it lacks %q", embedded.FileName)
	}
	return nil
}

// Restore unpacks a backup and puts its files in place of those in dir. It returns the directory within dir that it put what was
// there before into, "" if there was nothing.
//
// The directory itself stays, since it may be where a volume is mounted. Each file is replaced at once, after
// all old ones have a second name: whenever this is interrupted, the old ones are whole, and so is each that is in place.
func Restore(ctx context.Context, name, dir string) (old string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	defer f.Close()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	tmp, err := os.MkdirTemp(dir, ".restore-*")
	if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := read(f, func(name string, r io.Reader) error {
		out, err := os.OpenFile(filepath.Join(tmp, name), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, r)
		return errors.Join(err, out.Sync(), out.Close())
	}); err != nil {
		return "", fmt.Errorf("restore %s: %w", name, err)
	}
	// What cannot be opened is not put in place.
	db, err := embedded.Open(ctx, filepath.Join(tmp, embedded.FileName))
	if err != nil {
		return "", fmt.Errorf("restore %s: %w", name, err)
	}
	if err := db.Close(); err != nil {
		return "", err
	}
	if err := free(ctx, dir); err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	if old, err = exchange(tmp, dir); err != nil && old != "" {
		return "", fmt.Errorf("restore: %w; what was there before is in %s", err, old)
	} else if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	return old, nil
}

// beforePrefix begins the names of directories that hold what was there before a restore.
const beforePrefix = "before-"

// exchange moves the files in tmp into dir and those that are there into a new directory within.
func exchange(tmp, dir string) (old string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var there []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			there = append(there, e.Name())
		}
	}
	if len(there) > 0 {
		old = filepath.Join(dir, beforePrefix+time.Now().UTC().Format("20060102T150405.000"))
		if err := os.Mkdir(old, 0o700); err != nil {
			return "", err
		}
	}
	for _, name := range there {
		if err := os.Link(filepath.Join(dir, name), filepath.Join(old, name)); err != nil {
			return "", err
		}
	}
	for _, name := range there {
		// Files that go with another, as a database's log, must be gone before it is replaced.
		if _, err := os.Stat(filepath.Join(tmp, name)); errors.Is(err, fs.ErrNotExist) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return old, err
			}
		}
	}
	for _, name := range files {
		if err := os.Rename(filepath.Join(tmp, name), filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return old, err
		}
	}
	return old, nil
}

// free is an error if a program uses the data directory: it holds the lock of the
// state file. A damaged file is nobody's.
func free(ctx context.Context, dir string) error {
	path := filepath.Join(dir, embedded.FileName)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil // opening would make one
	}
	db, err := embedded.Open(ctx, path)
	switch {
	case err == nil:
		return db.Close()
	case errors.Is(err, embedded.ErrInUse):
		return err
	}
	return nil
}
