package postgres

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quickthorn/quickthorn/internal/privacy"
	"github.com/quickthorn/quickthorn/internal/store"
	"github.com/quickthorn/quickthorn/internal/store/storetest"
	"github.com/quickthorn/quickthorn/internal/testserver"
)

// server is the one server of most tests; each has a database of its own. It is started by the first that asks, and ended by TestMain.
var (
	server = sync.OnceValues(func() (*testserver.PostgresServer, error) {
		s, err := testserver.StartPostgres()
		if err == nil {
			end.Store(s)
		}
		return s, err
	})
	end atomic.Pointer[testserver.PostgresServer]
)

func TestMain(m *testing.M) {
	code := m.Run()
	if s := end.Load(); s != nil {
		if err := s.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func database(t testing.TB) string {
	t.Helper()
	s, err := server()
	testserver.SkipWithoutPostgres(t, err)
	return s.Database(t)
}

func options(url string) Options {
	return Options{
		URL:     url,
		Privacy: privacy.Settings{KeepQuery: true},
		Now:     storetest.Noon,
		Log:     slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

func open(t testing.TB, o Options) *Archive {
	t.Helper()
	a, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func newArchive(t testing.TB, change ...func(*Options)) *Archive {
	t.Helper()
	o := options(database(t))
	for _, f := range change {
		f(&o)
	}
	return open(t, o)
}

func TestArchive(t *testing.T) {
	storetest.Archive(t, storetest.ArchiveFactory{
		Open: func(t *testing.T, p privacy.Settings) store.Archive {
			return newArchive(t, func(o *Options) { o.Privacy = p })
		},
		Reopen: func(t *testing.T, a store.Archive, p privacy.Settings) store.Archive {
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			o := options(a.(*Archive).o.URL)
			o.Privacy = p
			return open(t, o)
		},
	})
}

func FuzzArchive(f *testing.F) {
	storetest.FuzzArchiveText(f, func(f *testing.F) store.Archive { return newArchive(f) })
}
