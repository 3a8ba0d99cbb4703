//go:build clients

package script

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"html"
	"math/bits"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// attributes are the data- attributes of a challenge page's main element.
type attributes map[string]string

// work returns the attributes of a challenge of kind work, with changes to them.
func work(s *Scripts, changes attributes) attributes {
	a := attributes{
		"kind": "work", "pass": "/.quickthorn/pass", "ticket": "ticket+for/a=test", "return": "/article",
		"fallback": "/.quickthorn/pass?fallback=1", "algorithm": "sha256", "puzzles": "32", "bits": "10", "least": "8", "limit": "9000",
		"worker": "/.quickthorn/assets/" + s.Worker(), "text-working": "working", "text-offline": "offline",
		"text-almost": "almost", "text-failed": "failed",
	}
	for name, value := range changes {
		a[name] = value
	}
	return a
}

// site is a small site behind a challenge. Its fields are set before it is visited,
// those below the mutex also later.
type site struct {
	*httptest.Server
	attributes attributes
	policy     string                      // Content-Security-Policy
	worker     string                      // served in place of the worker's script
	bare       bool                        // the page has no element but main
	pass       func(w http.ResponseWriter) // answers a good answer in place of a redirect

	mu       sync.Mutex
	requests []string // method and target of each
	answers  []string
	down     bool // the pass address does not answer
	away     int  // how many more times the cleared article is answered by "no content"
}

func newSite(t *testing.T, scripts *Scripts, changes attributes) *site {
	s := &site{attributes: work(scripts, changes), policy: "default-src 'self'"}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.quickthorn/assets/{name}", func(w http.ResponseWriter, r *http.Request) {
		f, ok := scripts.Find(r.PathValue("name"))
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", f.ContentType)
		if s.worker != "" && f.Name == scripts.Worker() {
			fmt.Fprint(w, s.worker)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(f.Gzip)
	})
	mux.HandleFunc("GET /.quickthorn/pass", s.servePass)
	mux.HandleFunc("GET /article", func(w http.ResponseWriter, r *http.Request) {
		if _, err := r.Cookie("clearance"); err != nil {
			s.serveChallenge(w, scripts)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.away > 0 {
			s.away--
			w.WriteHeader(http.StatusNoContent)
			return
		}
		s.servePage(w, "<h1 id=place>article</h1>")
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) { s.servePage(w, "<h1 id=place>home</h1>") })
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Method+" "+r.URL.RequestURI())
		s.mu.Unlock()
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *site) servePage(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", s.policy)
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprintf(w, "<!doctype html><html lang=en><title>page</title><link rel=icon href=/icon>%s", body)
}

func (s *site) serveChallenge(w http.ResponseWriter, scripts *Scripts) {
	var b strings.Builder
	fmt.Fprintf(&b, `<script src="/.quickthorn/assets/%s" defer></script><main id="challenge"`, scripts.Challenge())
	for name, value := range s.attributes {
		fmt.Fprintf(&b, ` data-%s="%s"`, name, html.EscapeString(value))
	}
	b.WriteString(`><h1 id=place>challenge</h1>`)
	if !s.bare {
		b.WriteString(`<progress id="progress" max=100 hidden></progress><p id="status" role="status" aria-live="polite"></p>`)
	}
	b.WriteString(`</main>`)
	s.servePage(w, b.String())
}

func (s *site) servePass(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Has("fallback") {
		s.servePage(w, "<h1 id=place>fallback</h1>")
		return
	}
	s.mu.Lock()
	down := s.down
	s.answers = append(s.answers, q.Get("answer"))
	s.mu.Unlock()
	if down {
		panic(http.ErrAbortHandler) // closes the connection without a word
	}
	solved, err := verify(s.attributes["algorithm"], s.attributes["ticket"], q.Get("answer"), s.number("puzzles"), s.number("bits"))
	switch {
	case q.Get("ticket") != s.attributes["ticket"]:
		s.servePage(w, "<h1 id=place>wrong ticket</h1>")
	case err != nil:
		s.servePage(w, "<h1 id=place>wrong answer: "+html.EscapeString(err.Error())+"</h1>")
	case solved < s.number("least"):
		s.servePage(w, "<h1 id=place>too few</h1>")
	case s.pass != nil:
		s.pass(w)
	default:
		http.SetCookie(w, &http.Cookie{Name: "clearance", Value: "yes", Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
		w.Header().Set("Location", "/article")
		w.WriteHeader(http.StatusSeeOther)
	}
}

func (s *site) number(name string) int {
	var n int
	fmt.Sscan(s.attributes[name], &n)
	return n
}

// set changes what may change while the site is visited.
func (s *site) set(change func(s *site)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// count returns how many requests began with a prefix.
func (s *site) count(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

// lastSolved returns how many puzzles the last answer held.
func (s *site) lastSolved(t *testing.T) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) == 0 {
		t.Fatal("no answer was handed in")
	}
	n, err := verify(s.attributes["algorithm"], s.attributes["ticket"], s.answers[len(s.answers)-1], s.number("puzzles"), s.number("bits"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// verify reads an answer as the wire format has it, by the plainest code, and returns how many puzzles it solves.
func verify(algorithm, ticket, answer string, puzzles, zeros int) (int, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(answer)
	if err != nil {
		return 0, err
	}
	seed := sha256.Sum256([]byte(ticket))
	hash := func(puzzle byte, number uint32) [32]byte {
		return sha256.Sum256(binary.BigEndian.AppendUint32(append(slices.Clone(seed[:]), 0, 0, 0, puzzle), number))
	}
	size := 5
	if algorithm == "memory" {
		size = 19
	}
	if len(raw)%size != 0 {
		return 0, errors.New("not a whole number of entries")
	}
	solved, last := 0, -1
	for entry := range slices.Chunk(raw, size) {
		puzzle, payload := entry[0], entry[1:]
		if int(puzzle) <= last || int(puzzle) >= puzzles {
			return 0, fmt.Errorf("puzzle %d after %d", puzzle, last)
		}
		last = int(puzzle)
		if algorithm == "sha256" {
			h := hash(puzzle, binary.BigEndian.Uint32(payload))
			if bits.LeadingZeros32(binary.BigEndian.Uint32(h[:])) < zeros {
				return 0, fmt.Errorf("puzzle %d: hash %x", puzzle, h)
			}
		} else if err := verifyMemory(hash, puzzle, payload); err != nil {
			return 0, fmt.Errorf("puzzle %d: %w", puzzle, err)
		}
		solved++
	}
	return solved, nil
}

// verifyMemory checks a solution of the generalised birthday problem and Wagner's conditions.
func verifyMemory(hash func(byte, uint32) [32]byte, puzzle byte, payload []byte) error {
	salt := uint32(binary.BigEndian.Uint16(payload))
	var leaf [8]uint16
	var value [8]uint64
	for i := range leaf {
		leaf[i] = binary.BigEndian.Uint16(payload[2+2*i:])
		h := hash(puzzle, salt*16384+uint32(leaf[i]/4))
		value[i] = binary.BigEndian.Uint64(h[8*(leaf[i]%4):]) >> 4
	}
	sorted := slices.Clone(leaf[:])
	slices.Sort(sorted)
	if len(slices.Compact(sorted)) != 8 {
		return fmt.Errorf("indices %d are not distinct", leaf)
	}
	for width, zeros := 2, 15; width <= 8; width, zeros = 2*width, 2*zeros {
		for at := 0; at < 8; at += width {
			var sum uint64
			for _, v := range value[at : at+width] {
				sum ^= v
			}
			if sum>>(60-zeros) != 0 {
				return fmt.Errorf("indices %d..%d agree in too few bits", at, at+width-1)
			}
			if leaf[at] >= leaf[at+width/2] {
				return fmt.Errorf("indices %d are out of order", leaf)
			}
		}
	}
	return nil
}
