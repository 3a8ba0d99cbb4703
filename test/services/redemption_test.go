//go:build services

package services

import (
	"html"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var refreshes = regexp.MustCompile(`http-equiv="refresh" content="\d+;url=([^"]+)"`)

// Of visitors who redeem one ticket at two edges at once, one gets a clearance; it is good at both.
func TestOneOfManyRedemptionsAtTwoEdgesWins(t *testing.T) {
	onBoth(t, func(t *testing.T, pair string) {
		dir := t.TempDir()
		key, policy := filepath.Join(dir, "clearance.key"), filepath.Join(dir, "policy.yaml")
		if err := os.WriteFile(key, []byte(strings.Repeat("k", 32)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(policy, []byte(`rules: [{name: ask, when: 'request.kind == "navigation"', action: challenge, challenge: [refresh], basis: certain}]`), 0o600); err != nil {
			t.Fatal(err)
		}
		s := newStack(t, pair, newSite(t).URL)
		for range 2 {
			s.addEdge("challenge.keyFile="+key, "policy.source="+policy, "policy.mode=enforce")
		}
		s.start()

		visit := func(edge *process, path, cookie string) (*http.Response, string) {
			r, err := http.NewRequest(http.MethodGet, edge.url+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0")
			r.Header.Set("Accept", "text/html")
			if cookie != "" {
				r.Header.Set("Cookie", cookie)
			}
			res, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Error(err)
				return &http.Response{Header: http.Header{}}, ""
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Error(err)
			}
			return res, string(body)
		}
		cookieOf := func(res *http.Response, name string) string {
			for _, set := range res.Header["Set-Cookie"] {
				if first, _, _ := strings.Cut(set, ";"); strings.HasPrefix(first, name+"=") {
					return first
				}
			}
			return ""
		}
		res, page := visit(s.edges[0], "/wiki/A", "")
		found := refreshes.FindStringSubmatch(page)
		if res.StatusCode != http.StatusTooManyRequests || found == nil {
			t.Fatalf("%d %s", res.StatusCode, page)
		}
		pass := html.UnescapeString(found[1])
		visitors := []string{cookieOf(res, "quickthorn-visitor")}
		for len(visitors) < 10 {
			res, _ := visit(s.edges[len(visitors)%2], "/wiki/A", "")
			visitors = append(visitors, cookieOf(res, "quickthorn-visitor"))
		}
		time.Sleep(2 * time.Second) // as the page says
		var passed, used atomic.Int32
		var clearance atomic.Value
		var all sync.WaitGroup
		for i, visitor := range visitors {
			all.Go(func() {
				switch res, body := visit(s.edges[i%2], pass, visitor); {
				case res.StatusCode == http.StatusSeeOther:
					passed.Add(1)
					clearance.Store(cookieOf(res, "quickthorn-clearance"))
				case res.StatusCode == http.StatusForbidden && strings.Contains(body, "already used"):
					used.Add(1)
				default:
					t.Errorf("%d %s", res.StatusCode, body)
				}
			})
		}
		all.Wait()
		if passed.Load() != 1 || int(used.Load()) != len(visitors)-1 {
			t.Fatalf("%d passed, %d were told that it is used", passed.Load(), used.Load())
		}
		for _, edge := range s.edges {
			if res, body := visit(edge, "/wiki/A", clearance.Load().(string)); res.StatusCode != http.StatusOK {
				t.Errorf("with the clearance: %d %s", res.StatusCode, body)
			}
		}
		// Without ai-service readers pass all the same.
		s.intake.kill()
		res, page = visit(s.edges[0], "/wiki/B", "")
		time.Sleep(2 * time.Second)
		if res, body := visit(s.edges[0], html.UnescapeString(refreshes.FindStringSubmatch(page)[1]), cookieOf(res, "quickthorn-visitor")); res.StatusCode != http.StatusSeeOther {
			t.Errorf("without ai-service: %d %s", res.StatusCode, body)
		}
		s.intake.start().await() // what the edges have recorded goes there
	})
}
