// Package artifact keeps files that services share in the archive, each in versions that never change: models that text is made from, what
// sites look like, and whether the tarpit is on.
package artifact

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// The kinds of artifacts.
const (
	// Corpus is a model of package prose.
	Corpus = "corpus"
	// Switch is the position of a switch: "on" or "off".
	Switch = "switch"
	// Likeness is a profile of package likeness; its name is that of the site.
	Likeness = "likeness"
)

// The bounds of an artifact, in bytes.
const (
	MaxBody = 64 << 20
	MaxName = 128
	MaxNote = 1000
)

// Artifact is a version of a file.
type Artifact struct {
	Kind    string    `json:"kind"`
	Name    string    `json:"name"`
	Version int64     `json:"version"` // from 1
	Size    int64     `json:"size"`    // bytes
	SHA256  string    `json:"sha256"`  // of the body, in hexadecimal digits
	At      time.Time `json:"at"`
	Note    string    `json:"note,omitempty"`
}

// Compare orders by kind and name.
func (a *Artifact) Compare(b *Artifact) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}

// ErrUnknown says that there is no such artifact.
var ErrUnknown = errors.New("there is no such artifact")

// Store keeps artifacts. It is safe for concurrent use, also by several processes.
type Store interface {
	// PutArtifact keeps the body as the next version, of which a.Version, Size and SHA256 are filled in, unless it is that of the latest one; that is
	// returned then, and fresh is false. Older versions than the keep newest are forgotten.
	PutArtifact(ctx context.Context, a Artifact, body []byte, keep int) (put Artifact, fresh bool, err error)
	// Artifact returns a version with its body; 0 is the latest. The error wraps ErrUnknown if there is none.
	Artifact(ctx context.Context, kind, name string, version int64) (Artifact, []byte, error)
	// Artifacts lists all versions, by kind and name, the newest first.
	Artifacts(ctx context.Context) ([]Artifact, error)
}

// PartSize is the size of the parts in which stores keep bodies, so that no row is large, in bytes.
const PartSize = 1 << 20

// Prepare checks what is to be kept and fills in its size and sum.
func (a *Artifact) Prepare(body []byte) error {
	switch {
	case !validName(a.Kind) || !validName(a.Name):
		return fmt.Errorf("artifact: kind %.80q, name %.80q: want 1 to %d letters, digits and other visible characters without a slash", a.Kind, a.Name, MaxName)
	case len(a.Note) > MaxNote:
		return fmt.Errorf("artifact: a note of %d bytes: want at most %d", len(a.Note), MaxNote)
	case len(body) == 0 || len(body) > MaxBody:
		return fmt.Errorf("artifact: %d bytes: want 1 to %d", len(body), MaxBody)
	}
	sum := sha256.Sum256(body)
	a.Size, a.SHA256 = int64(len(body)), hex.EncodeToString(sum[:])
	return nil
}

// Check reports whether the body is the artifact's.
func (a *Artifact) Check(body []byte) error {
	if sum := sha256.Sum256(body); int64(len(body)) != a.Size || hex.EncodeToString(sum[:]) != a.SHA256 {
		return fmt.Errorf("artifact: %s %q, version %d, is damaged: its sum is another", a.Kind, a.Name, a.Version)
	}
	return nil
}

func validName(s string) bool {
	if s == "" || s == "." || s == ".." || len(s) > MaxName {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '/' || s[i] == '\\' {
			return false
		}
	}
	return true
}
