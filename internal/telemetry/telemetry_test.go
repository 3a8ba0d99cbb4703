package telemetry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/quickthorn/quickthorn/internal/telemetry"
)

// hostile is what a client might send to whoever reads the log.
func hostile() []string {
	return []string{
		"\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "line\nlevel=ERROR msg=forged", "\r\x00\b", "\x7f", "\u009b2J\u0085", "\xff\xfe\x9b2J",
		"\u202egnp.exe", "\u2066x\u2069", "\u200b", "\u2028", "\U000e0041", `","level":"ERROR`,
	}
}

type textual string

func (s textual) MarshalText() ([]byte, error) { return []byte(s), nil }

func TestLogNeverHoldsWhatATerminalActsOn(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		for _, s := range hostile() {
			var b bytes.Buffer
			log, err := telemetry.NewLogger(&b, "info", format)
			if err != nil {
				t.Fatal(err)
			}
			log.With("with", s).WithGroup("g").Info("message "+s, "string", s, "error", errors.New(s), "any", struct{ A string }{s}, "text", textual(s), "list", []string{s}, "bytes", []byte(s))
			line, ok := strings.CutSuffix(b.String(), "\n")
			if !ok {
				t.Fatalf("%s: no end of line: %q", format, line)
			}
			for _, r := range line {
				if !unicode.IsPrint(r) || r == unicode.ReplacementChar && format == "text" {
					t.Errorf("%s: %q is written with %U: %q", format, s, r, line)
					break
				}
			}
			if format == "json" {
				var entry map[string]any
				if err := json.Unmarshal([]byte(line), &entry); err != nil {
					t.Errorf("%q makes a line that is not JSON: %v", s, err)
				}
				if entry["level"] != "INFO" {
					t.Errorf("%q forges a level: %q", s, line)
				}
			}
		}
	}
}

func TestReadableTextIsLeftAlone(t *testing.T) {
	var b bytes.Buffer
	log, err := telemetry.NewLogger(&b, "info", "json")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("Bücher 書籍 😀")
	if !strings.Contains(b.String(), "Bücher 書籍 😀") {
		t.Errorf("got %s", &b)
	}
}

func TestLevels(t *testing.T) {
	for level, want := range map[string]int{"debug": 4, "info": 3, "warn": 2, "error": 1} {
		var b bytes.Buffer
		log, err := telemetry.NewLogger(&b, level, "text")
		if err != nil {
			t.Fatal(err)
		}
		log.Debug("a")
		log.Info("b")
		log.Warn("c")
		log.Error("d")
		if got := strings.Count(b.String(), "\n"); got != want {
			t.Errorf("%s writes %d lines, want %d", level, got, want)
		}
	}
	if _, err := telemetry.NewLogger(io.Discard, "loud", "text"); err == nil {
		t.Error("an unknown level is taken")
	}
	if _, err := telemetry.NewLogger(io.Discard, "info", "xml"); err == nil {
		t.Error("an unknown format is taken")
	}
}

func TestStateIsSaidOncePerChange(t *testing.T) {
	var b bytes.Buffer
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	s := telemetry.NewState(log, "events cannot be stored", "events are stored again", func() time.Time { return now })
	for _, err := range []error{nil, nil, errors.New("disk full"), errors.New("still full"), nil, nil, errors.New("gone")} {
		s.Report(err)
		if s.Failing() != (err != nil) {
			t.Errorf("after %v: failing = %v", err, s.Failing())
		}
		now = now.Add(time.Minute)
	}
	want := `level=ERROR msg="events cannot be stored" error="disk full"
level=INFO msg="events are stored again" failures=2 after=2m0s
level=ERROR msg="events cannot be stored" error=gone
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", &b, want)
	}
}

func TestMetricsAreServedWithHelp(t *testing.T) {
	m := telemetry.NewMetrics("1.2.3", "abcdef")
	if err := m.Counter("events_dropped_total", "Events that found the queue full.", func() float64 { return 7 }); err != nil {
		t.Fatal(err)
	}
	if err := m.Gauge("archive_size_bytes", "Size of the archive.", func() float64 { return 4096 }); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	m.Handler(slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		"# HELP quickthorn_events_dropped_total Events that found the queue full.\n# TYPE quickthorn_events_dropped_total counter\nquickthorn_events_dropped_total 7\n",
		"# TYPE quickthorn_archive_size_bytes gauge\nquickthorn_archive_size_bytes 4096\n",
		`quickthorn_build_info{goversion="go`, `revision="abcdef",version="1.2.3"} 1`,
		"\ngo_goroutines ", "\nprocess_resident_memory_bytes ",
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("/metrics lacks %q", want)
		}
	}
}

func TestMetricsWithWrongNamesAreRefused(t *testing.T) {
	m := telemetry.NewMetrics("", "")
	one := func() float64 { return 1 }
	for name, err := range map[string]error{
		"counter without _total": m.Counter("requests", "Requests.", one),
		"gauge with _total":      m.Gauge("requests_total", "Requests.", one),
		"no help":                m.Gauge("requests", "", one),
		"not a name":             m.Gauge("a b\n", "Help.", one),
	} {
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := m.Gauge("x", "X.", one); err != nil {
		t.Fatal(err)
	}
	if err := m.Gauge("x", "X.", one); err == nil {
		t.Error("registered twice")
	}
}
