//go:build services

package services

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/testserver"
)

// deny has an address refused and returns when that was asked for.
func (s *stack) deny(address string) time.Time {
	s.t.Helper()
	began := time.Now()
	s.cli("decisions", "add", "--action", "deny", "--reason", "for the test", address)
	return began
}

func TestDecisionsAndModesReachEveryEdgeAtOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, pair string) {
		s := newStack(t, pair, newSite(t).URL)
		s.addEdge()
		s.addEdge()
		s.start()

		// measure returns how long it takes until both edges answer the client with that status.
		measure := func(address string, status int, change func() time.Time) time.Duration {
			began := change()
			var last time.Time
			for _, e := range s.edges {
				if at := s.awaitStatus(e, address, status); at.After(last) {
					last = at
				}
			}
			return last.Sub(began)
		}
		var took []time.Duration
		for i := range 8 {
			address := fmt.Sprintf("203.0.113.%d", 10+i)
			if status := s.mustRead(s.edges[0], address); status != http.StatusOK {
				t.Fatalf("%s is answered %d at first", address, status)
			}
			took = append(took, measure(address, http.StatusForbidden, func() time.Time { return s.deny(address) }))
		}
		var modes []time.Duration
		for _, m := range []struct {
			command string
			status  int
		}{{"observe", http.StatusOK}, {"enforce", http.StatusForbidden}, {"off", http.StatusOK}, {"enforce", http.StatusForbidden}} {
			modes = append(modes, measure("203.0.113.10", m.status, func() time.Time {
				began := time.Now()
				s.cli(m.command)
				return began
			}))
		}
		lifted := measure("203.0.113.10", http.StatusOK, func() time.Time {
			began := time.Now()
			s.cli("decisions", "delete", "--value", "203.0.113.10")
			return began
		})
		t.Logf("from the command's start until both edges enforce: decisions median %s, longest %s; modes median %s, longest %s; a deletion %s",
			median(took), slices.Max(took), median(modes), slices.Max(modes), lifted)

		// A new edge begins with all that is in force.
		late := s.addEdge().start().await()
		s.awaitStatus(late, "203.0.113.11", http.StatusForbidden)
		s.awaitStatus(late, "203.0.113.17", http.StatusForbidden)
		if status := s.mustRead(late, "203.0.113.10"); status != http.StatusOK {
			t.Errorf("the new edge answers %d to a client that is not denied any more", status)
		}
	})
}

func TestEdgesKeepWhatTheyKnowAndCatchUpWithWhatTheyMissed(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, pair string) {
		s := newStack(t, pair, newSite(t).URL)
		one, two := s.addEdge(), s.addEdge()
		s.start()
		s.cli("enforce")
		s.deny("203.0.113.20")
		s.deny("203.0.113.21")
		for _, e := range s.edges {
			s.awaitStatus(e, "203.0.113.20", http.StatusForbidden)
			s.awaitStatus(e, "203.0.113.21", http.StatusForbidden)
		}

		// One that hears nothing for a while.
		one.signal(syscall.SIGSTOP)
		s.deny("203.0.113.22")
		s.cli("decisions", "delete", "--value", "203.0.113.21")
		s.awaitStatus(two, "203.0.113.22", http.StatusForbidden)
		one.signal(syscall.SIGCONT)
		s.awaitStatus(one, "203.0.113.22", http.StatusForbidden)
		s.awaitStatus(one, "203.0.113.21", http.StatusOK)

		// Both are started anew while ai-service is down: one in order, one after a crash, once its file is up to date.
		known := time.Now()
		eventually(t, func() error {
			info, err := os.Stat(filepath.Join(two.dir, "decisions.snapshot"))
			if err == nil && info.ModTime().Before(known) && time.Since(known) < 5*time.Second {
				err = fmt.Errorf("the snapshot is of %s", info.ModTime())
			}
			return err
		})
		s.awaitRequests(s.read) // then the edges have nothing left to report
		if status := s.intake.terminate(); status != 0 {
			t.Errorf("ai-service ended with status %d", status)
		}
		if status := one.terminate(); status != 0 {
			t.Errorf("an edge that had nothing to report ended with status %d", status)
		}
		two.kill()
		for _, e := range s.edges {
			e.start().await()
			for address, want := range map[string]int{"203.0.113.20": 403, "203.0.113.22": 403, "203.0.113.21": 200} {
				if status := s.mustRead(e, address); status != want {
					t.Errorf("%s, started while ai-service is down, answers %d to %s, want %d", e.name, status, address, want)
				}
			}
		}

		// What was decided while ai-service was down, where its data directory is all there is.
		if pair == embedded {
			for _, args := range [][]string{
				{"decisions", "add", "--action", "deny", "203.0.113.23"}, {"decisions", "delete", "--value", "203.0.113.20"},
			} {
				must(t, []string{"QUICKTHORN_PRIVATE_KEY=" + operatorKey}, append(args, "--data", s.intake.dir, "--set", "private.listen="+testserver.FreeAddress(t), "--set", "aiService.listen="+testserver.FreeAddress(t))...)
			}
		}
		s.intake.start().await()
		if pair == remote {
			s.deny("203.0.113.23")
			s.cli("decisions", "delete", "--value", "203.0.113.20")
		}
		for _, e := range s.edges {
			s.awaitStatus(e, "203.0.113.23", http.StatusForbidden)
			s.awaitStatus(e, "203.0.113.20", http.StatusOK)
			s.awaitStatus(e, "203.0.113.22", http.StatusForbidden)
		}
	})
}
