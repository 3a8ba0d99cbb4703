package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/quickthorn/quickthorn/internal/artifact"
)

const selectArtifact = "SELECT kind, name, version, size, sha256, time, note FROM artifacts "

func scanArtifact(r pgx.Row) (a artifact.Artifact, err error) {
	err = r.Scan(&a.Kind, &a.Name, &a.Version, &a.Size, &a.SHA256, &a.At, &a.Note)
	a.At = a.At.UTC()
	return a, err
}

// artifactLock is the advisory lock of whoever puts an artifact: versions follow one another.
const artifactLock = lockKey + 1

// PutArtifact keeps a body as the next version, unless it is the latest one's.
func (a *Archive) PutArtifact(ctx context.Context, next artifact.Artifact, body []byte, keep int) (put artifact.Artifact, fresh bool, err error) {
	if err := next.Prepare(body); err != nil {
		return put, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	err = a.write(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(artifactLock)); err != nil {
			return err
		}
		put, err = scanArtifact(tx.QueryRow(ctx, selectArtifact+"WHERE kind = $1 AND name = $2 ORDER BY version DESC LIMIT 1", next.Kind, next.Name))
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if fresh = put.SHA256 != next.SHA256; !fresh {
			return nil
		}
		n := next
		n.Version, n.At = put.Version+1, next.At.UTC().Truncate(time.Millisecond)
		put = n
		if _, err := tx.Exec(ctx, "INSERT INTO artifacts (kind, name, version, size, sha256, time, note) VALUES ($1, $2, $3, $4, $5, $6, $7)",
			n.Kind, n.Name, n.Version, n.Size, n.SHA256, n.At, n.Note); err != nil {
			return err
		}
		part := 0
		for b := range slices.Chunk(body, artifact.PartSize) {
			if _, err := tx.Exec(ctx, "INSERT INTO artifact_parts (kind, name, version, part, body) VALUES ($1, $2, $3, $4, $5)", n.Kind, n.Name, n.Version, part, b); err != nil {
				return err
			}
			part++
		}
		for _, table := range []string{"artifacts", "artifact_parts"} {
			if _, err := tx.Exec(ctx, "DELETE FROM "+table+" WHERE kind = $1 AND name = $2 AND version <= $3", n.Kind, n.Name, n.Version-int64(max(keep, 1))); err != nil {
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

func findArtifact(ctx context.Context, c *pgx.Conn, kind, name string, version int64) (artifact.Artifact, error) {
	found, err := scanArtifact(c.QueryRow(ctx, selectArtifact+"WHERE kind = $1 AND name = $2 AND ($3::bigint = 0 OR version = $3) ORDER BY version DESC LIMIT 1", kind, name, version))
	if errors.Is(err, pgx.ErrNoRows) {
		err = artifact.ErrUnknown
	}
	if err != nil {
		return found, fmt.Errorf("reading artifact %.80s %.80q: %w", kind, name, err)
	}
	return found, nil
}

// Artifact returns a version with its body; 0 is the latest.
func (a *Archive) Artifact(ctx context.Context, kind, name string, version int64) (found artifact.Artifact, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	err = a.use(ctx, func(c *pgx.Conn) error {
		if found, err = findArtifact(ctx, c, kind, name, version); err != nil {
			return err
		}
		rows, err := c.Query(ctx, "SELECT body FROM artifact_parts WHERE kind = $1 AND name = $2 AND version = $3 ORDER BY part", kind, name, found.Version)
		if err != nil {
			return err
		}
		defer rows.Close()
		body = make([]byte, 0, found.Size)
		for rows.Next() {
			var part []byte
			if err := rows.Scan(&part); err != nil {
				return err
			}
			body = append(body, part...)
		}
		return rows.Err()
	})
	if err != nil {
		return found, nil, err
	}
	return found, body, found.Check(body)
}

// Artifacts lists all versions, by kind and name, the newest first.
func (a *Archive) Artifacts(ctx context.Context) (list []artifact.Artifact, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	err = a.use(ctx, func(c *pgx.Conn) error {
		rows, err := c.Query(ctx, selectArtifact+"ORDER BY kind, name, version DESC")
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (artifact.Artifact, error) { return scanArtifact(r) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing artifacts: %w", err)
	}
	return list, nil
}
