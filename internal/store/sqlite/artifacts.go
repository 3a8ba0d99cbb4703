package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quickthorn/quickthorn/internal/artifact"
)

const selectArtifact = "SELECT kind, name, version, size, sha256, time, note FROM artifacts "

func scanArtifact(scan func(...any) error) (a artifact.Artifact, err error) {
	var at int64
	err = scan(&a.Kind, &a.Name, &a.Version, &a.Size, &a.SHA256, &at, &a.Note)
	a.At = time.UnixMilli(at).UTC()
	return a, err
}

// PutArtifact keeps a body as the next version, unless it is the latest one's.
func (a *Archive) PutArtifact(ctx context.Context, next artifact.Artifact, body []byte, keep int) (put artifact.Artifact, fresh bool, err error) {
	if err := next.Prepare(body); err != nil {
		return put, false, err
	}
	err = a.write(ctx, func(tx *sql.Tx, _ *files) error {
		put, err = scanArtifact(tx.QueryRowContext(ctx, selectArtifact+"WHERE kind = ? AND name = ? ORDER BY version DESC LIMIT 1", next.Kind, next.Name).Scan)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if fresh = put.SHA256 != next.SHA256; !fresh {
			return nil
		}
		next.Version = put.Version + 1
		next.At = next.At.UTC().Truncate(time.Millisecond)
		put = next
		if _, err := tx.ExecContext(ctx, "INSERT INTO artifacts (kind, name, version, size, sha256, time, note) VALUES (?, ?, ?, ?, ?, ?, ?)",
			next.Kind, next.Name, next.Version, next.Size, next.SHA256, next.At.UnixMilli(), next.Note); err != nil {
			return err
		}
		part := 0
		for b := range slices.Chunk(body, artifact.PartSize) {
			if _, err := tx.ExecContext(ctx, "INSERT INTO artifact_parts (kind, name, version, part, body) VALUES (?, ?, ?, ?, ?)",
				next.Kind, next.Name, next.Version, part, b); err != nil {
				return err
			}
			part++
		}
		for _, table := range []string{"artifacts", "artifact_parts"} {
			if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE kind = ? AND name = ? AND version <= ?", next.Kind, next.Name, next.Version-int64(max(keep, 1))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return put, false, fmt.Errorf("keeping artifact %s %q: %w", next.Kind, next.Name, err)
	}
	return put, fresh, nil
}

func (a *Archive) findArtifact(ctx context.Context, kind, name string, version int64) (found artifact.Artifact, err error) {
	ok := false
	err = a.read(ctx, selectArtifact+"WHERE kind = ? AND name = ? AND (? = 0 OR version = ?) ORDER BY version DESC LIMIT 1", []any{kind, name, version, version},
		func(r *sql.Rows) error {
			ok = true
			found, err = scanArtifact(r.Scan)
			return err
		})
	if err == nil && !ok {
		err = artifact.ErrUnknown
	}
	if err != nil {
		return found, fmt.Errorf("reading artifact %.80s %.80q: %w", kind, name, err)
	}
	return found, nil
}

// Artifact returns a version with its body; 0 is the latest.
func (a *Archive) Artifact(ctx context.Context, kind, name string, version int64) (artifact.Artifact, []byte, error) {
	found, err := a.findArtifact(ctx, kind, name, version)
	if err != nil {
		return found, nil, err
	}
	body := make([]byte, 0, found.Size)
	err = a.read(ctx, "SELECT body FROM artifact_parts WHERE kind = ? AND name = ? AND version = ? ORDER BY part", []any{kind, name, found.Version}, func(r *sql.Rows) error {
		var part sql.RawBytes
		if err := r.Scan(&part); err != nil {
			return err
		}
		body = append(body, part...)
		return nil
	})
	if err != nil {
		return found, nil, fmt.Errorf("reading artifact %.80s %.80q: %w", kind, name, err)
	}
	return found, body, found.Check(body)
}

// Artifacts lists all versions, by kind and name, the newest first.
func (a *Archive) Artifacts(ctx context.Context) (list []artifact.Artifact, err error) {
	err = a.read(ctx, selectArtifact+"ORDER BY kind, name, version DESC", nil, func(r *sql.Rows) error {
		found, err := scanArtifact(r.Scan)
		list = append(list, found)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing artifacts: %w", err)
	}
	return list, nil
}
