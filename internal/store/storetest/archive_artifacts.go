package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/artifact"
)

// testArtifacts: versions follow one another, and none ever changes.
func testArtifacts(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	if _, _, err := a.Artifact(t.Context(), artifact.Corpus, "site", 0); !errors.Is(err, artifact.ErrUnknown) {
		t.Errorf("none yet: %v", err)
	}
	put := func(name string, body []byte, version int64, fresh bool) {
		t.Helper()
		got, isNew, err := a.PutArtifact(t.Context(), artifact.Artifact{Kind: artifact.Corpus, Name: name, Note: "of " + name, At: Noon()}, body, 3)
		if err != nil || got.Version != version || isNew != fresh || got.Size != int64(len(body)) || !got.At.Equal(Noon()) {
			t.Errorf("%s: %+v, new: %v, %v; want version %d, new: %v", name, got, isNew, err, version, fresh)
		}
	}
	large := bytes.Repeat([]byte("0123456789abcdef\x00"), 3*artifact.PartSize/17)
	put("site", []byte("one"), 1, true)
	put("site", []byte("one"), 1, false)
	put("site", large, 2, true)
	put("other", []byte("one"), 1, true)
	a = f.Reopen(t, a, keepAll())
	put("site", []byte("one"), 3, true)
	put("site", []byte("four"), 4, true)
	get := func(name string, version int64, want []byte) {
		t.Helper()
		found, body, err := a.Artifact(t.Context(), artifact.Corpus, name, version)
		if err != nil || !bytes.Equal(body, want) || version != 0 && found.Version != version || found.Note != "of "+name {
			t.Errorf("%s %d: %+v, %d bytes, %v", name, version, found, len(body), err)
		}
	}
	get("site", 0, []byte("four"))
	get("site", 2, large)
	get("other", 0, []byte("one"))
	if _, _, err := a.Artifact(t.Context(), artifact.Corpus, "site", 1); !errors.Is(err, artifact.ErrUnknown) {
		t.Errorf("the fourth last of three that are kept: %v", err)
	}
	list, err := a.Artifacts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range list {
		names = append(names, fmt.Sprint(l.Name, l.Version))
	}
	if want := []string{"other1", "site4", "site3", "site2"}; !slices.Equal(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
	for _, bad := range []artifact.Artifact{{Kind: "", Name: "x"}, {Kind: "x", Name: "a/b"}, {Kind: "x", Name: strings.Repeat("n", 200)}, {Kind: "x", Name: "x", Note: strings.Repeat("n", 2000)}} {
		if _, _, err := a.PutArtifact(t.Context(), bad, []byte("x"), 1); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	if _, _, err := a.PutArtifact(t.Context(), artifact.Artifact{Kind: "x", Name: "x"}, nil, 1); err == nil {
		t.Error("nothing was taken")
	}
	if _, err := a.Prune(t.Context(), time.Hour, 1<<30, Noon().Add(100*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	get("site", 0, []byte("four"))
}

// testArtifactsAtTheSameTime: of writers at the same time each gets a version of its own.
func testArtifactsAtTheSameTime(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	const writers = 8
	versions := make([]int64, writers)
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			got, _, err := a.PutArtifact(t.Context(), artifact.Artifact{Kind: artifact.Likeness, Name: "site", At: Noon()}, fmt.Appendf(nil, "body %d", i), 100)
			if err != nil {
				t.Error(err)
			}
			versions[i] = got.Version
		})
	}
	all.Wait()
	slices.Sort(versions)
	for i, v := range versions {
		if v != int64(i+1) {
			t.Fatalf("versions %v", versions)
		}
	}
}
