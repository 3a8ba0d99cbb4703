package artifact

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/quickthorn/quickthorn/internal/wait"
)

// Library is where artifacts are found and put, in this process or in another.
type Library interface {
	// List lists all versions, by kind and name, the newest first.
	List(ctx context.Context) ([]Artifact, error)
	// Get returns a version with its body. The error wraps ErrUnknown if there is none.
	Get(ctx context.Context, kind, name string, version int64) (Artifact, []byte, error)
	// Put keeps the body as the next version, unless it is the latest one's, which is returned then.
	Put(ctx context.Context, kind, name, note string, body []byte) (Artifact, error)
}

// Local is the Library of an archive of this process.
type Local struct {
	Store Store
	Now   func() time.Time
}

// List implements Library.
func (l *Local) List(ctx context.Context) ([]Artifact, error) { return l.Store.Artifacts(ctx) }

// Get implements Library.
func (l *Local) Get(ctx context.Context, kind, name string, version int64) (Artifact, []byte, error) {
	return l.Store.Artifact(ctx, kind, name, version)
}

// Put implements Library.
func (l *Local) Put(ctx context.Context, kind, name, note string, body []byte) (Artifact, error) {
	a, _, err := l.Store.PutArtifact(ctx, Artifact{Kind: kind, Name: name, Note: note, At: l.Now()}, body, Keep)
	return a, err
}

// Memory is a Store that forgets with the process: for a program without an archive.
type Memory struct {
	mu   sync.Mutex
	kept []kept // by kind and name, the newest first
}

type kept struct {
	Artifact
	body []byte
}

// PutArtifact implements Store.
func (m *Memory) PutArtifact(_ context.Context, a Artifact, body []byte, keep int) (Artifact, bool, error) {
	if err := a.Prepare(body); err != nil {
		return a, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at, found := slices.BinarySearchFunc(m.kept, a, func(k kept, a Artifact) int { return k.Compare(&a) })
	if found && m.kept[at].SHA256 == a.SHA256 {
		return m.kept[at].Artifact, false, nil
	}
	a.Version = 1
	if found {
		a.Version = m.kept[at].Version + 1
	}
	m.kept = slices.Insert(m.kept, at, kept{a, slices.Clone(body)})
	m.kept = slices.DeleteFunc(m.kept, func(k kept) bool { return k.Compare(&a) == 0 && k.Version <= a.Version-int64(max(keep, 1)) })
	return a, true, nil
}

// Artifact implements Store.
func (m *Memory) Artifact(_ context.Context, kind, name string, version int64) (Artifact, []byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.kept {
		if k.Kind == kind && k.Name == name && (version == 0 || k.Version == version) {
			return k.Artifact, k.body, nil
		}
	}
	return Artifact{}, nil, ErrUnknown
}

// Artifacts implements Store.
func (m *Memory) Artifacts(context.Context) (list []Artifact, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.kept {
		list = append(list, k.Artifact)
	}
	return list, nil
}

// Watcher puts new versions into force.
type Watcher struct {
	Library Library
	Every   time.Duration
	// Take is told of the latest version of each artifact of a kind, and of each newer one that comes. An error is logged; the version is left alone then.
	Take map[string]func(a *Artifact, body []byte) error
	Log  *slog.Logger
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	type id struct{ kind, name string }
	known := map[id]string{} // sums
	failing := false
	look := func() error {
		list, err := w.Library.List(ctx)
		if err != nil {
			return err
		}
		var failed []error
		seen := map[id]bool{}
		for i := range list {
			a, take := &list[i], w.Take[list[i].Kind]
			k := id{a.Kind, a.Name}
			if take == nil || seen[k] {
				continue
			}
			seen[k] = true
			if known[k] == a.SHA256 {
				continue
			}
			_, body, err := w.Library.Get(ctx, a.Kind, a.Name, a.Version)
			switch {
			case errors.Is(err, ErrUnknown): // a newer one has just come
				continue
			case err != nil:
				failed = append(failed, err)
				continue
			}
			known[k] = a.SHA256
			if err := take(a, body); err != nil {
				w.Log.Error("an artifact of the archive cannot be used; what is in force stays so", "kind", a.Kind, "name", a.Name, "version", a.Version, "error", err)
				continue
			}
			w.Log.Info("an artifact of the archive is in force", "kind", a.Kind, "name", a.Name, "version", a.Version)
		}
		return errors.Join(failed...)
	}
	for ctx.Err() == nil {
		err := look()
		if ctx.Err() != nil {
			break
		}
		if err != nil && !failing { // at a common start who serves the archive may come later: no error yet
			w.Log.Warn("what the archive keeps cannot be read yet; what is in force stays so", "error", err)
		}
		failing = err != nil
		wait.For(ctx, w.Every)
	}
	return nil
}

// Latest returns the latest version among those listed. The error wraps ErrUnknown if there is none.
func Latest(list []Artifact, kind, name string) (Artifact, error) {
	for _, a := range list {
		if a.Kind == kind && a.Name == name {
			return a, nil
		}
	}
	return Artifact{}, fmt.Errorf("%w: %s %q", ErrUnknown, kind, name)
}
