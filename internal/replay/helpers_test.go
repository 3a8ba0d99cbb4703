package replay

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/agent"
	"github.com/quickthorn/quickthorn/internal/crawler"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/profile"
)

var update = flag.Bool("update", false, "rewrite the files under testdata/golden")

// logs is where the real logs are, with their sources and licences in README.md.
const logs = "../accesslog/testdata"

var profiler = sync.OnceValue(func() *profile.Profiler {
	c, err := crawler.Default()
	if err != nil {
		panic(err)
	}
	return profile.New(agent.New(c))
})

func preset(t testing.TB, name string) *policy.Policy {
	t.Helper()
	p, err := policy.Load(name, policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func compiled(t testing.TB, source string) *policy.Policy {
	t.Helper()
	p, err := policy.Compile("mine.yaml", []byte(source), policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// options are those of "quickthorn replay" without flags.
func options(t testing.TB) Options {
	t.Helper()
	return Options{Profiler: profiler(), Policy: preset(t, "readers-first"), Mode: defense.ModeEnforce, Site: "default", Buckets: 200_000}
}

// replayed runs over what is given as standard input.
func replayed(t testing.TB, log string, change ...func(*Options)) *Report {
	t.Helper()
	o := options(t)
	o.Stdin = strings.NewReader(log)
	for _, c := range change {
		c(&o)
	}
	r, err := Run(context.Background(), []string{"-"}, 15, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func with(p *policy.Policy) func(*Options)    { return func(o *Options) { o.Policy = p } }
func against(p *policy.Policy) func(*Options) { return func(o *Options) { o.Compare = p } }

const (
	chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
	gptbot = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)"
	git    = "git/2.45.1"
	feed   = "Tiny Tiny RSS/1.11 (http://tt-rss.org/)"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// line writes a line in the combined format.
func line(at time.Time, client, target, userAgent string) string {
	return fmt.Sprintf("%s - - [%s] \"GET %s HTTP/1.1\" 200 1000 \"-\" \"%s\"\n", client, at.Format("02/Jan/2006:15:04:05 -0700"), target, userAgent)
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is no longer what a replay gives; if that is right, run the test with -update\n%s", file, cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")))
	}
}
