package accesslog

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// corpus adds real lines of every format.
func corpus(f *testing.F, add func(line string)) {
	names, err := filepath.Glob("testdata/crowdsec/*.log")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		file, err := os.Open(name)
		if err != nil {
			f.Fatal(err)
		}
		in := bufio.NewScanner(file)
		for n := 0; n < 8 && in.Scan(); n++ {
			add(in.Text())
		}
		file.Close()
	}
}

// FuzzParse holds what must be true of every entry, whatever the line.
func FuzzParse(f *testing.F) {
	corpus(f, func(line string) { f.Add([]byte(line)) })
	all := formats()
	custom, err := Compile(`$http_x_forwarded_for $remote_addr [$time_iso8601] $scheme://$host$uri$is_args$args "$request" $request_time "$upstream_response_time" "$http_user_agent"`)
	if err != nil {
		f.Fatal(err)
	}
	all = append(all, custom)
	f.Fuzz(func(t *testing.T, line []byte) {
		for _, format := range all {
			for _, wrap := range []func(parser) parser{
				func(p parser) parser { return p },
				func(p parser) parser { return &container{p, unwrapDocker} },
				func(p parser) parser { return &container{p, unwrapCRI} },
			} {
				p := &Parser{wrap(format.new())}
				var e Entry
				if err := p.Parse(line, &e); err != nil {
					if r, ok := err.(Reason); !ok || r == 0 || r >= reasons {
						t.Fatalf("%s: error %#v is no reason", format.name, err)
					}
					continue
				}
				if !e.Client.IsValid() || e.Client.Is4In6() || e.Client.Zone() != "" {
					t.Errorf("%s: client %v", format.name, e.Client)
				}
				if y := e.Time.Year(); y < 1 || y > 9999 || e.Time.Location() != time.UTC {
					t.Errorf("%s: time %v", format.name, e.Time)
				}
				if !isMethod(e.Method) || !isTarget(e.Target) || e.Status < 0 || e.Status > 999 || e.Bytes < 0 || e.Duration < 0 || e.Upstream < 0 {
					t.Errorf("%s: %+v", format.name, e)
				}
			}
		}
	})
}

// FuzzJSON compares the scanner with encoding/json: what is JSON it must read to
// the end, and of a flat object it must read the same texts.
func FuzzJSON(f *testing.F) {
	corpus(f, func(line string) { f.Add(line) })
	f.Add(`{"a":"\u00e4\ud83d\ude00\ud800","b":[1,{"c":null}],"":-1.5e3,"d":true}`)
	f.Fuzz(func(t *testing.T, s string) {
		j := scanner{s: s}
		j.skip(0)
		ended := j.end()
		if !json.Valid([]byte(s)) {
			return
		}
		var flat map[string]any
		if json.Unmarshal([]byte(s), &flat) != nil || !utf8.ValidString(s) {
			return
		}
		if !ended && strings.Count(s, "{")+strings.Count(s, "[") <= maxDepth {
			t.Fatalf("did not read %q to the end: stopped at %d", s, j.i)
		}
		j = scanner{s: s}
		j.open('{')
		last := map[string]string{}
		for n := 0; j.more('}', n); n++ {
			k := j.key()
			delete(last, k)
			if j.peek() == '"' {
				last[k] = j.text()
			} else {
				j.skip(0)
			}
		}
		for k, v := range flat {
			if want, ok := v.(string); ok && ended && last[k] != want {
				t.Errorf("%q: %q is %q, want %q", s, k, last[k], want)
			}
		}
	})
}

// FuzzCompile holds that a format string is refused or makes a parser that never panics.
func FuzzCompile(f *testing.F) {
	line := `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET / HTTP/1.1" 200 10 "-" "x"`
	f.Add(npmProxy, line)
	f.Add(albLayout, line)
	f.Add(`log_format main escape=json '$remote_addr - [$time_local] "$request"' '${status}';`, line)
	f.Add(`LogFormat "%v:%p %h %l %u %{begin:%d/%b/%Y:%T %z}t \"%r\" %>s %O %{Referer}i %^FB %{X}^ti %%" vhost`, line)
	f.Fuzz(func(t *testing.T, format, line string) {
		c, err := Compile(format)
		if err != nil {
			return
		}
		var e Entry
		_ = c.NewParser().Parse([]byte(line), &e) // any Reason will do
	})
}

// FuzzTime compares parseTime with package time.
func FuzzTime(f *testing.F) {
	f.Add("29/Feb/2024:23:59:59 -0700")
	f.Add("2000-02-29T00:00:00.123456789+05:30")
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseTime(s)
		if !ok {
			return
		}
		for _, l := range []string{"02/Jan/2006:15:04:05 -0700", "2006-01-02T15:04:05Z07:00"} {
			if want, err := time.Parse(l, s); err == nil && !got.Equal(want) {
				t.Errorf("%q is %v, want %v", s, got, want)
			}
		}
	})
}
