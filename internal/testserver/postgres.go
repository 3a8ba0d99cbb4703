package testserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrNoPostgres is wrapped by StartPostgres's error when PostgreSQL is not installed.
var ErrNoPostgres = errors.New("PostgreSQL is not installed")

// PostgresServer is a PostgreSQL server on data of its own. It listens on a Unix socket only.
type PostgresServer struct {
	// Dir is where its data and its socket are.
	Dir string

	bin       string
	settings  []string
	owner     *owner
	cmd       *exec.Cmd
	done      chan error // closed when cmd has ended
	databases atomic.Int64
	fail      func(string) // ends the test
}

// owner is whom the server runs as; nil: as who runs the tests.
type owner struct{ uid, gid uint32 }

// Postgres starts a server with these additional settings, such as "fsync=on", and waits until it answers. It is stopped,
// and its data removed, when the test ends. By default it does not wait for the disk, so that it survives Kill but
// no power cut. The test is skipped when PostgreSQL is missing, or fails when STRICT_TESTS is set.
func Postgres(t testing.TB, settings ...string) *PostgresServer {
	t.Helper()
	s, err := newPostgres(settings)
	if err == nil {
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		s.fail = func(text string) {
			t.Helper()
			t.Fatal(text)
		}
		err = s.start()
	}
	SkipWithoutPostgres(t, err)
	return s
}

// StartPostgres starts a server like Postgres for a whole test binary. Who calls it calls Close. The error wraps ErrNoPostgres
// when it is missing; see SkipWithoutPostgres.
func StartPostgres(settings ...string) (*PostgresServer, error) {
	s, err := newPostgres(settings)
	if err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// SkipWithoutPostgres skips a test for an error that wraps ErrNoPostgres, unless STRICT_TESTS is set, and ends it for any other.
func SkipWithoutPostgres(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, ErrNoPostgres) && os.Getenv(Strict) == "":
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}

func newPostgres(settings []string) (s *PostgresServer, err error) {
	s = &PostgresServer{settings: settings, fail: func(text string) { panic(text) }}
	if s.bin, err = postgresBin(); err != nil {
		return nil, err
	}
	// The server refuses to run as root.
	if os.Geteuid() == 0 {
		if s.owner, err = lookUpOwner("postgres"); err != nil {
			return nil, err
		}
	}
	// Not t.TempDir: a socket's path may have 107 bytes, and the folders above are for root only.
	if s.Dir, err = os.MkdirTemp("", "qt-postgres-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(s.Dir))
		}
	}()
	if s.owner != nil {
		if err := os.Chown(s.Dir, int(s.owner.uid), int(s.owner.gid)); err != nil {
			return nil, err
		}
	}
	init := s.command("initdb", "--pgdata", s.data(), "--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync")
	if out, err := init.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return s, nil
}

// postgresBin returns the folder of the server's programs: the newest that Debian has put where the PATH does not lead, or that of the PATH.
func postgresBin() (string, error) {
	best, newest := "", -1
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	for _, p := range found {
		dir := filepath.Dir(p)
		if v, err := strconv.Atoi(filepath.Base(filepath.Dir(dir))); err == nil && v > newest {
			best, newest = dir, v
		}
	}
	if best != "" {
		return best, nil
	}
	if p, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(p), nil
	}
	return "", ErrNoPostgres
}

func lookUpOwner(name string) (*owner, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("%w for a test run by root: %w", ErrNoPostgres, err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return &owner{uint32(uid), uint32(gid)}, errors.Join(err1, err2)
}

func (s *PostgresServer) data() string { return filepath.Join(s.Dir, "data") }

func (s *PostgresServer) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.Dir
	cmd.SysProcAttr = asOwner(s.owner)
	return cmd
}

// URL returns the address of the server's first database, as user postgres.
func (s *PostgresServer) URL() string { return s.url("postgres") }

func (s *PostgresServer) url(database string) string {
	return "postgres://postgres@/" + database + "?" + url.Values{"host": {s.Dir}, "port": {"5432"}}.Encode()
}

// Database makes an empty database for a test and returns its address. It goes with the server.
func (s *PostgresServer) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	s.Exec(t, s.URL(), "CREATE DATABASE "+name)
	return s.url(name)
}

// Exec runs statements, on a connection of their own, in the database at that address. It is for what a test does
// to the server behind a client's back.
func (s *PostgresServer) Exec(t testing.TB, url, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	if _, err := c.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		t.Fatal(err)
	}
}

// Start starts the server again after Stop or Kill, on the same data and socket, and waits until it answers.
func (s *PostgresServer) Start() {
	if err := s.start(); err != nil {
		s.fail(err.Error())
	}
}

func (s *PostgresServer) start() error {
	if s.cmd != nil {
		return errors.New("PostgreSQL runs already")
	}
	args := []string{"-D", s.data(), "-k", s.Dir, "-c", "listen_addresses=", "-p", "5432"}
	for _, set := range append([]string{"fsync=off", "shared_buffers=64MB", "max_connections=60", "unix_socket_permissions=0777", "log_checkpoints=off"}, s.settings...) {
		args = append(args, "-c", set)
	}
	for give := time.Now().Add(startTimeout); ; {
		output := &bytes.Buffer{}
		cmd := s.command("postgres", args...)
		cmd.Stdout, cmd.Stderr = output, output
		if err := cmd.Start(); err != nil {
			return err
		}
		s.done = make(chan error, 1)
		go func(done chan<- error) {
			done <- cmd.Wait()
			close(done)
		}(s.done)
		s.cmd = cmd
		err := s.await(give)
		if err == nil {
			return nil
		}
		s.end(syscall.SIGQUIT)
		// After Kill the server's other processes take a moment to notice, and it does not start beside them.
		if !strings.Contains(output.String(), "shared memory block") || time.Now().After(give) {
			return fmt.Errorf("%w\n%s", err, output)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// await returns when the server answers, has ended, or takes too long.
func (s *PostgresServer) await(give time.Time) error {
	ctx, cancel := context.WithDeadline(context.Background(), give)
	defer cancel()
	for {
		c, err := pgx.Connect(ctx, s.URL())
		if err == nil {
			return c.Close(ctx)
		}
		select {
		case end := <-s.done:
			return fmt.Errorf("PostgreSQL ended: %v", end)
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL does not answer: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Stop ends the server as an operator would, with its clients' connections, and waits for it.
func (s *PostgresServer) Stop() { s.end(syscall.SIGINT) }

// Kill ends the server as a crash would and waits for it.
func (s *PostgresServer) Kill() { s.end(syscall.SIGKILL) }

func (s *PostgresServer) end(sig syscall.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig) // it may have ended by itself
	<-s.done
	s.cmd = nil
}

// Close ends the server and removes its data.
func (s *PostgresServer) Close() error {
	s.end(syscall.SIGQUIT)
	return os.RemoveAll(s.Dir)
}
