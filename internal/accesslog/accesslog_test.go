package accesslog_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/quickthorn/quickthorn/internal/accesslog"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/profile"
	"github.com/quickthorn/quickthorn/internal/race"
)

var update = flag.Bool("update", false, "rewrite golden files")

// describe writes what is read of a log.
func describe(w io.Writer, r *accesslog.Reader) error {
	f, err := r.Detect()
	if err != nil {
		return err
	}
	var e, first accesslog.Entry
	var text string
	for {
		err := r.Next(&e)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if text == "" {
			first, text = e, string(r.Text())
			fmt.Fprintf(w, "  first: %s %s %q %q %s host=%q scheme=%q agent=%q referer=%q headers=%d status=%d bytes=%d duration=%s upstream=%s\n",
				first.Time.Format(time.RFC3339Nano), first.Client, first.Method, first.Target, first.Protocol, first.Host, first.Scheme,
				first.UserAgent.Value, first.Referer.Value, len(first.Header), first.Status, first.Bytes, first.Duration, first.Upstream)
		}
	}
	s := r.Stats()
	fmt.Fprintf(w, "  %s: %d lines, %d entries\n", f.Name(), s.Lines, s.Entries)
	broken := 0
	for _, b := range s.Broken {
		fmt.Fprintf(w, "  %d × %s, line %d: %.60s\n", b.Lines, b.Reason.Error(), b.Examples[0].Line, b.Examples[0].Text)
		broken += b.Lines
	}
	if s.Entries+broken != s.Lines {
		return fmt.Errorf("%d lines, but %d entries and %d broken", s.Lines, s.Entries, broken)
	}
	return nil
}

func TestRealLogsAreReadAsTheGoldenFileSays(t *testing.T) {
	names, err := filepath.Glob("testdata/crowdsec/*.log")
	if err != nil || len(names) == 0 {
		t.Fatalf("no logs: %v", err)
	}
	names = append(names, "testdata/elastic-apache_logs.log.gz")
	var got bytes.Buffer
	for _, name := range names {
		src, err := accesslog.Open(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&got, filepath.Base(name))
		if err := describe(&got, accesslog.NewReader(src, nil)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if done, of := src.Progress(); done != of || of == 0 {
			t.Errorf("%s: progress says %d of %d at the end", name, done, of)
		}
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	}
	const golden = "testdata/counts.golden"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Error(d)
	}
}

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return t.UTC()
}

func present(s string) defense.Text { return defense.Text{Value: s, Presence: defense.Present} }

var absent = defense.Text{Presence: defense.Absent}

var equalAddresses = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestLines(t *testing.T) {
	base := func(change func(*accesslog.Entry)) accesslog.Entry {
		e := accesslog.Entry{LogEntry: profile.LogEntry{
			Time: at("2023-10-10T08:32:31Z"), Client: netip.MustParseAddr("203.0.113.7"), Method: "GET", Target: "/a?b=c", Protocol: "HTTP/1.1",
		}, Status: 200, Bytes: 10}
		if change != nil {
			change(&e)
		}
		return e
	}
	for _, tt := range []struct {
		name, format, line string
		want               accesslog.Entry
	}{
		{"common", "common", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET /a?b=c HTTP/1.1" 200 10`, base(nil)},
		{"zone", "common", `203.0.113.7 - - [10/Oct/2023:01:02:31 -0730] "GET /a?b=c HTTP/1.1" 200 10`, base(nil)},
		{"no size", "common", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET /a?b=c HTTP/1.1" 304 -`, base(func(e *accesslog.Entry) { e.Status, e.Bytes = 304, 0 })},
		{"user with spaces", "common", `203.0.113.7 - Ada Lovelace [10/Oct/2023:08:32:31 +0000] "GET /a?b=c HTTP/1.1" 200 10`, base(nil)},
		{"combined", "combined", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET /a?b=c HTTP/1.1" 200 10 "https://ref/" "Agent/1"`,
			base(func(e *accesslog.Entry) { e.Referer, e.UserAgent = present("https://ref/"), present("Agent/1") })},
		{"a dash is absent", "combined", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET /a?b=c HTTP/1.1" 200 10 "-" ""`,
			base(func(e *accesslog.Entry) { e.Referer, e.UserAgent = absent, absent })},
		{"nginx's escapes", "combined", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET /\xC3\xA4?q=\x22x\x5C HTTP/1.1" 200 10 "-" "a\x22b\x0Ac\xFF"`,
			base(func(e *accesslog.Entry) {
				e.Target, e.Referer, e.UserAgent = "/ä?q=\"x\\", absent, present("a\"b\nc\xff")
			})},
		{"Apache's escapes", "combined", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET /\"x\" HTTP/1.1" 200 10 "-" "say \"hi\" \\ \t\x1b"`,
			base(func(e *accesslog.Entry) {
				e.Target, e.Referer, e.UserAgent = `/"x"`, absent, present("say \"hi\" \\ \t\x1b")
			})},
		{"quotes that nobody escaped", "combined", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET /?q="x" HTTP/1.1" 200 10 "-" "a "b"c"`,
			base(func(e *accesslog.Entry) { e.Target, e.Referer, e.UserAgent = `/?q="x"`, absent, present(`a "b"c`) })},
		{"bytes that are no UTF-8", "combined", "203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] \"GET /\xff HTTP/1.1\" 200 10 \"-\" \"\xfe\"",
			base(func(e *accesslog.Entry) { e.Target, e.Referer, e.UserAgent = "/\xff", absent, present("\xfe") })},
		{"spaces in the target", "common", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET /a b c HTTP/1.1" 200 10`, base(func(e *accesslog.Entry) { e.Target = "/a b c" })},
		{"HTTP/0.9", "common", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET /a?b=c" 200 10`, base(func(e *accesslog.Entry) { e.Protocol = "" })},
		{"HTTP/2", "common", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET /a?b=c HTTP/2" 200 10`, base(func(e *accesslog.Entry) { e.Protocol = "HTTP/2.0" })},
		{"unusual methods", "common", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "VERSION-CONTROL /a?b=c HTTP/1.1" 200 10`, base(func(e *accesslog.Entry) { e.Method = "VERSION-CONTROL" })},
		{"OPTIONS *", "common", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "OPTIONS * HTTP/1.1" 200 10`, base(func(e *accesslog.Entry) { e.Method, e.Target = "OPTIONS", "*" })},
		{"CONNECT", "common", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "CONNECT x.org:443 HTTP/1.1" 200 10`, base(func(e *accesslog.Entry) { e.Method, e.Target = "CONNECT", "x.org:443" })},
		{"virtual host", "vhost", `www.example.org:443 203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET /a?b=c HTTP/1.1" 200 10 "-" "x"`,
			base(func(e *accesslog.Entry) { e.Host, e.Referer, e.UserAgent = "www.example.org:443", absent, present("x") })},
		{"IPv6", "common", `2001:db8::1 - - [10/Oct/2023:08:32:31 +0000] "GET /a?b=c HTTP/1.1" 200 10`, base(func(e *accesslog.Entry) { e.Client = netip.MustParseAddr("2001:db8::1") })},
		{"IPv4 in IPv6", "common", `::ffff:203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET /a?b=c HTTP/1.1" 200 10`, base(nil)},
		{"port", "common", `[2001:db8::1]:4711 - - [10/Oct/2023:08:32:31 +0000] "GET /a?b=c HTTP/1.1" 200 10`, base(func(e *accesslog.Entry) { e.Client = netip.MustParseAddr("2001:db8::1") })},
		{"list in the client's place", "common", `203.0.113.7, 10.0.0.1 - - [10/Oct/2023:08:32:31 +0000] "GET /a?b=c HTTP/1.1" 200 10`, base(nil)},
		{"nginx's main behind a proxy", "combined", `10.0.0.1 - - [10/Oct/2023:08:32:31 +0000] "GET /a?b=c HTTP/1.1" 200 10 "-" "x" "198.51.100.1, 203.0.113.7, 10.0.0.9"`,
			base(func(e *accesslog.Entry) { e.Referer, e.UserAgent = absent, present("x") })},
		{"forged X-Forwarded-For", "combined", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET /a?b=c HTTP/1.1" 200 10 "-" "x" "198.51.100.1"`,
			base(func(e *accesslog.Entry) { e.Referer, e.UserAgent = absent, present("x") })},
		{"Traefik's CLF", "traefik-clf", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET /a?b=c HTTP/1.1" 200 10 "-" "-" 244 "a@docker -> b@docker" "http://172.17.0.3:80" 42ms`,
			base(func(e *accesslog.Entry) { e.Referer, e.UserAgent, e.Duration = absent, absent, 42*time.Millisecond })},
		{"anything behind", "combined", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET /a?b=c HTTP/1.1" 200 10 "-" "x" rt=0.1 uct="0.0" 1234`,
			base(func(e *accesslog.Entry) { e.Referer, e.UserAgent = absent, present("x") })},
		{"nginx's own string", `$remote_addr $host [$time_iso8601] "$request_method $scheme://$http_host$request_uri" $status $request_time "$upstream_response_time" "$http_accept_language" $body_bytes_sent`,
			`203.0.113.7 x [2023-10-10T10:32:31+02:00] "GET https://example.org/a?b=c" 200 0.250 "0.100, 0.200 : 0.300" "de,en;q=0.5" 10`,
			base(func(e *accesslog.Entry) {
				e.Scheme, e.Host, e.Protocol, e.Duration, e.Upstream = "https", "example.org", "", 250*time.Millisecond, 600*time.Millisecond
				e.Header = http.Header{"Accept-Language": {"de,en;q=0.5"}}
			})},
		{"nginx's directive with JSON", `log_format json escape=json '{"t":$msec,"ip":"$remote_addr",'
			'"r":"$request","s":$status,"b":$bytes_sent,"ua":"$http_user_agent","q":"${http_referer}"}';`,
			`{"t":1696926751.250,"ip":"203.0.113.7","r":"GET /a?b=c HTTP/1.1","s":200,"b":10,"ua":"a\"b\u00e4\ud83d\ude00\\","q":""}`,
			base(func(e *accesslog.Entry) {
				e.Time, e.UserAgent, e.Referer = at("2023-10-10T08:32:31.25Z"), present("a\"bä😀\\"), absent
			})},
		{"nginx's parts of the target", `$remote_addr [$time_local] $request_method $uri$is_args$args $server_protocol $status $bytes_sent`,
			`203.0.113.7 [10/Oct/2023:08:32:31 +0000] GET /a?b=c HTTP/1.1 200 10`, base(nil)},
		{"Apache's own string", `%v:%p %a %l %u %{%d/%b/%Y %T %z}t "%m %U%q %H" %>s %b "%{Referer}i" "%400,501{User-agent}i" %D %{Sec-Fetch-Mode}i`,
			`www.example.org:443 203.0.113.7 - - 10/Oct/2023 10:32:31 +0200 "GET /a?b=c HTTP/1.1" 200 10 "-" "x" 1500 navigate`,
			base(func(e *accesslog.Entry) {
				e.Host, e.Referer, e.UserAgent, e.Duration = "www.example.org", absent, present("x"), 1500*time.Microsecond
				e.Header = http.Header{"Sec-Fetch-Mode": {"navigate"}}
			})},
		{"Apache's directive", `CustomLog "logs/access log" "%h %t \"%r\" %>s %B %{ms}T %%"`,
			`203.0.113.7 [10/Oct/2023:08:32:31 +0000] "GET /a?b=c HTTP/1.1" 200 10 20 %`, base(func(e *accesslog.Entry) { e.Duration = 20 * time.Millisecond })},
		{"Caddy", "caddy", `{"level":"info","ts":1696926751,"logger":"http.log.access.log0","msg":"handled request","request":{"remote_ip":"10.0.0.1","client_ip":"203.0.113.7","proto":"HTTP/2.0","method":"GET","host":"example.org","uri":"/a?b=c","headers":{"User-Agent":["x\u00e4"],"Accept":["text/html","*/*"],"Cookie":[],"Authorization":["REDACTED"]},"tls":{"version":772}},"duration":0.5,"size":10,"status":200}`,
			base(func(e *accesslog.Entry) {
				e.Host, e.Scheme, e.Protocol, e.UserAgent, e.Referer, e.Duration = "example.org", "https", "HTTP/2.0", present("xä"), absent, 500*time.Millisecond
				e.Complete, e.Header = true, http.Header{"Accept": {"text/html"}, "Cookie": {""}, "Authorization": {"REDACTED"}}
			})},
		{"Caddy without headers", "caddy", `{"ts":"2023-10-10T10:32:31.000+0200","request":{"remote_addr":"203.0.113.7:999","proto":"HTTP/1.1","method":"GET","host":"h","uri":"/a?b=c"},"duration":"1.5ms","size":10,"status":200}`,
			base(func(e *accesslog.Entry) { e.Host, e.Scheme, e.Duration = "h", "http", 1500*time.Microsecond })},
		{"Traefik", "traefik", `{"ClientHost":"203.0.113.7","DownstreamContentSize":10,"DownstreamStatus":200,"Duration":2000000,"OriginDuration":1000000,"RequestAddr":"example.org","RequestMethod":"GET","RequestPath":"/a?b=c","RequestProtocol":"HTTP/1.1","RequestScheme":"https","StartUTC":"2023-10-10T08:32:31Z","request_User-Agent":"x","request_Accept":"*/*","time":"2023-10-10T08:32:32Z"}`,
			base(func(e *accesslog.Entry) {
				e.Host, e.Scheme, e.UserAgent, e.Duration, e.Upstream = "example.org", "https", present("x"), 2*time.Millisecond, time.Millisecond
				e.Header = http.Header{"Accept": {"*/*"}}
			})},
		{"Envoy", "envoy", `{"start_time":"2023-10-10T08:32:31.000Z","method":"GET","path":"/a?b=c","protocol":"HTTP/1.1","response_code":200,"bytes_sent":10,"duration":3,"user-agent":null,":authority":"example.org","downstream_remote_address":"10.0.0.1:1","x-forwarded-for":"203.0.113.7"}`,
			base(func(e *accesslog.Entry) { e.Host, e.UserAgent, e.Duration = "example.org", absent, 3*time.Millisecond })},
		{"HAProxy by syslog", "haproxy", `Oct 10 08:32:31 lb haproxy[123]: 203.0.113.7:999 [10/Oct/2023:08:32:31.000] fe~ be/s1 0/0/1/20/21 200 10 - - ---- 1/1/0/0/0 0/0 {|x} "GET /a?b=c HTTP/1.1"`,
			base(func(e *accesslog.Entry) {
				e.Scheme, e.Upstream, e.Duration = "https", 20*time.Millisecond, 21*time.Millisecond
			})},
		{"AWS load balancer", "aws-alb", `h2 2023-10-10T08:32:31.000000Z app/x 203.0.113.7:999 10.0.0.1:80 0.086 0.048 0.037 200 200 0 10 "GET https://example.org:443/a?b=c HTTP/1.1" "x" ECDHE TLSv1.2 arn`,
			base(func(e *accesslog.Entry) {
				e.Host, e.Scheme, e.UserAgent, e.Upstream = "example.org:443", "https", present("x"), 48*time.Millisecond
			})},
		{"nginx Proxy Manager", "nginx-proxy-manager", `[10/Oct/2023:08:32:31 +0000] - 200 200 - GET https example.org "/a?b=c" [Client 203.0.113.7] [Length 10] [Gzip -] [Sent-to 10.0.0.1] "x" "-"`,
			base(func(e *accesslog.Entry) {
				e.Host, e.Scheme, e.Protocol, e.UserAgent, e.Referer = "example.org", "https", "", present("x"), absent
			})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := accesslog.Named(tt.format)
			if err != nil {
				t.Fatal(err)
			}
			var e accesslog.Entry
			p := f.NewParser()
			for range 2 { // a parser must forget the line before
				if err := p.Parse([]byte(tt.line), &e); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(tt.want, e, equalAddresses); d != "" {
					t.Fatal(d)
				}
			}
		})
	}
}

func TestBrokenLinesHaveAReason(t *testing.T) {
	for _, tt := range []struct {
		format, line string
		want         accesslog.Reason
	}{
		{"combined", ``, accesslog.ReasonLayout},
		{"combined", `hello`, accesslog.ReasonLayout},
		{"combined", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET / HTTP/1.1`, accesslog.ReasonLayout},
		{"combined", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET / HTTP/1.1" 200`, accesslog.ReasonLayout},
		{"combined", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET / HTTP/1.1" 2x0 1`, accesslog.ReasonStatus},
		{"combined", `203.0.113.7 - - [31/Feb/2023:08:32:31 +0000] "GET / HTTP/1.1" 200 1`, accesslog.ReasonTime},
		{"combined", `203.0.113.7 - - [10/Foo/2023:08:32:31 +0000] "GET / HTTP/1.1" 200 1`, accesslog.ReasonTime},
		{"combined", `203.0.113.7 - - [10/Oct/2023:25:32:31 +0000] "GET / HTTP/1.1" 200 1`, accesslog.ReasonTime},
		{"combined", `203.0.113.7 - - [10/Oct/2023:08:32:31 +9900] "GET / HTTP/1.1" 200 1`, accesslog.ReasonTime},
		{"combined", `203.0.113.7 - - [-] "GET / HTTP/1.1" 200 1`, accesslog.ReasonTime},
		{"combined", `dsl.example.net - - [10/Oct/2023:08:32:31 +0000] "GET / HTTP/1.1" 200 1`, accesslog.ReasonHostName},
		{"combined", `- - - [10/Oct/2023:08:32:31 +0000] "GET / HTTP/1.1" 200 1`, accesslog.ReasonNoClient},
		{"combined", `unix: - - [10/Oct/2023:08:32:31 +0000] "GET / HTTP/1.1" 200 1`, accesslog.ReasonNoClient},
		{"combined", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "-" 408 0 "-" "-"`, accesslog.ReasonNoRequest},
		{"combined", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "" 400 0 "-" "-"`, accesslog.ReasonNoRequest},
		{"combined", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "\x16\x03\x01" 400 0 "-" "-"`, accesslog.ReasonRequest},
		{"combined", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "HELP" 400 0 "-" "-"`, accesslog.ReasonRequest},
		{"combined", `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET  HTTP/1.1" 400 0 "-" "-"`, accesslog.ReasonRequest},
		{"caddy", `{"level":"info","msg":"serving initial configuration"}`, accesslog.ReasonOther},
		{"caddy", `{"ts":1,"request":{`, accesslog.ReasonLayout},
		{"caddy", `{"ts":1,"request":{}} x`, accesslog.ReasonLayout},
		{"caddy", `{"ts":-1,"request":{"method":"GET","uri":"/","client_ip":"203.0.113.7"}}`, accesslog.ReasonTime},
		{"caddy", `{"x":` + strings.Repeat("[", 50000), accesslog.ReasonLayout},
		{"traefik", `{"level":"info","msg":"Starting provider","time":"2023-10-10T08:32:31Z"}`, accesslog.ReasonOther},
		{"haproxy", `203.0.113.7:1 [10/Oct/2023:08:32:31.123] fe/be: SSL handshake failure`, accesslog.ReasonOther},
		{"haproxy", `203.0.113.7:1 [10/Oct/2023:08:32:31.123] fe be/<NOSRV> -1/-1/-1/-1/0 400 0 - - PR-- 1/1/0/0/0 0/0 "<BADREQ>"`, accesslog.ReasonRequest},
		{"combined", strings.Repeat("a", accesslog.MaxLine+1), accesslog.ReasonTooLong},
	} {
		f, err := accesslog.Named(tt.format)
		if err != nil {
			t.Fatal(err)
		}
		var e accesslog.Entry
		if err := f.NewParser().Parse([]byte(tt.line), &e); err != tt.want {
			t.Errorf("%s %.80q: got %v, want %v", tt.format, tt.line, err, tt.want)
		}
	}
}

func TestFormatStringsThatCannotWorkAreRefused(t *testing.T) {
	for format, want := range map[string]string{
		"":                                     "is not one of combined, caddy",
		"combind":                              "is not one of combined, caddy",
		"$status":                              "holds no time",
		"[$time_local] $status":                "holds no client address",
		"$remote_addr [$time_local]":           "holds no request",
		"$remote_addr$time_local $request":     "nothing stands between $remote_addr and $time_local",
		"$remote_addr $ $time_local $request":  "$ without a variable's name at byte 14",
		"${remote_addr $time_local $request":   "is not closed",
		"$remote_addr $time_local $msec $uri":  "holds the time in several parts",
		"log_format main '$remote_addr":        "a quote (') is not closed",
		"log_format main $remote_addr":         "holds no format in quotes",
		`LogFormat "combined"`:                 "holds no format in quotes",
		"%h %t %r %j":                          "%j: is no directive of Apache's",
		"%h %t %r %{User-agent":                "is not closed",
		"%h %t %r %":                           "% without a letter",
		"%h %{%Q}t %r":                         "%Q is not supported in a time",
		"%h %t %i %r":                          "needs the name of a header",
		strings.Repeat("$remote_addr ", 10000): "bytes long, at most",
	} {
		if _, err := accesslog.Named(format); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: got %v, want …%s…", format, err, want)
		}
	}
}

func TestNamedFormatsExist(t *testing.T) {
	for _, name := range accesslog.Names() {
		f, err := accesslog.Named(name)
		if err != nil || f.Name() != name {
			t.Errorf("%s: %v, %v", name, f, err)
		}
		f.NewParser()
	}
}

func TestDetectionSaysWhatItCannotRead(t *testing.T) {
	for _, tt := range []struct{ log, want string }{
		{"", "the log is empty"},
		{"\n\n\r\n", "the log is empty"},
		{"2021/12/01 13:53:33 [error] 31#31: *46 is not found\n", "looks like nginx's error log"},
		{"[Thu Oct 13 12:24:49.880562 2022] [auth_basic:error] [pid 10] x\n", "looks like Apache's error log"},
		{"#Software: Microsoft Internet Information Services 10.0\n#Version: 1.0\n", "W3C extended log"},
		{`{"remote":"203.0.113.7","path":"/"}` + "\n", "looks like JSON that is not of"},
		{"<190>Oct 11 22:14:15 web nginx: 1.2.3.4 x\n", "a syslog stream"},
		{"Oct 11 22:14:15 web app: hello\n", "a syslog file"},
		{"\x1b[31mhello\n", `begins with "\x1b[31mhello"`},
	} {
		_, err := accesslog.NewReader(strings.NewReader(tt.log), nil).Detect()
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.40q: got %v, want …%s…", tt.log, err, tt.want)
		}
	}
}

const line = `203.0.113.7 - - [10/Oct/2023:08:32:31 +0000] "GET / HTTP/1.1" 200 10 "-" "x"`

func TestContainerLogsAreUnwrapped(t *testing.T) {
	for name, log := range map[string]string{
		"combined in docker": `{"log":"` + strings.ReplaceAll(line, `"`, `\"`) + `\n","stream":"stdout","time":"2023-10-10T08:32:31.1Z"}`,
		"combined in cri":    "2023-10-10T08:32:31.123456789+02:00 stdout F " + line,
	} {
		r := accesslog.NewReader(strings.NewReader(log+"\nno container wrote this\n"+log+"\n"), nil)
		var e accesslog.Entry
		if err := r.Next(&e); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if f, _ := r.Detect(); f.Name() != name || e.UserAgent != present("x") {
			t.Errorf("got %q, agent %v, want %q", f.Name(), e.UserAgent, name)
		}
	}
}

func readAll(t *testing.T, r *accesslog.Reader) (entries int, err error) {
	t.Helper()
	var e accesslog.Entry
	for {
		if err := r.Next(&e); err == io.EOF {
			return entries, nil
		} else if err != nil {
			return entries, err
		}
		entries++
	}
}

func TestReaderGoesOnOverWhatIsBroken(t *testing.T) {
	long := strings.Repeat("x", 3*accesslog.MaxLine)
	edge := line + strings.Repeat("y", accesslog.MaxLine-len(line)-1)                                                     // the longest line that is read, less the quote
	log := line + "\r\n\r\n\n" + long + "\n" + "# comment\n" + edge + "\n" + "junk \x1b[2J\n" + long + line + "\n" + line // no end
	combined, err := accesslog.Named("combined")
	if err != nil {
		t.Fatal(err)
	}
	for name, src := range map[string]io.Reader{"whole": strings.NewReader(log), "byte by byte": iotest.OneByteReader(strings.NewReader(log))} {
		r := accesslog.NewReader(src, combined)
		n, err := readAll(t, r)
		if err != nil {
			t.Fatal(err)
		}
		s := r.Stats()
		if n != 2 || s.Entries != 2 || s.Lines != 7 {
			t.Errorf("%s: %d entries, %+v", name, n, s)
		}
		got := map[accesslog.Reason]int{}
		for _, b := range s.Broken {
			got[b.Reason] = b.Lines
			for _, x := range b.Examples {
				if strings.ContainsFunc(x.Text, func(r rune) bool { return !unicode.IsPrint(r) }) || len(x.Text) > 1000 {
					t.Errorf("%s: the example of line %d is not fit for a terminal: %.200q", name, x.Line, x.Text)
				}
			}
		}
		want := map[accesslog.Reason]int{accesslog.ReasonTooLong: 2, accesslog.ReasonOther: 1, accesslog.ReasonLayout: 2}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if r.Line() != 9 {
			t.Errorf("%s: ends at line %d, want 9", name, r.Line())
		}
	}
}

func TestExamplesAreFew(t *testing.T) {
	f, err := accesslog.Named("combined")
	if err != nil {
		t.Fatal(err)
	}
	r := accesslog.NewReader(strings.NewReader(strings.Repeat("junk\n", 1000)), f)
	if _, err := readAll(t, r); err != nil {
		t.Fatal(err)
	}
	b := r.Stats().Broken
	if len(b) != 1 || b[0].Lines != 1000 || len(b[0].Examples) != 3 || b[0].Examples[2].Line != 3 {
		t.Errorf("got %+v", b)
	}
}

func TestAFailingDiskIsAnError(t *testing.T) {
	broken := errors.New("input/output error")
	r := accesslog.NewReader(io.MultiReader(strings.NewReader(line+"\n"), iotest.ErrReader(broken)), nil)
	if n, err := readAll(t, r); n != 1 || !errors.Is(err, broken) {
		t.Errorf("got %d entries, %v", n, err)
	}
}

func TestCompressedLogs(t *testing.T) {
	var zipped, zstandard bytes.Buffer
	for range 3 { // members one behind the other, as rotation makes them
		w := gzip.NewWriter(&zipped)
		fmt.Fprintln(w, line)
		w.Close()
		z, err := zstd.NewWriter(&zstandard)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(z, line)
		z.Close()
	}
	plain := strings.Repeat(line+"\n", 3)
	for name, tt := range map[string]struct {
		data    string
		entries int
		problem string
	}{
		"plain":     {plain, 3, ""},
		"gzip":      {zipped.String(), 3, ""},
		"zstd":      {zstandard.String(), 3, ""},
		"truncated": {zipped.String()[:zipped.Len()-20], 2, "unexpected EOF"},
		"empty":     {"", 0, "the log is empty"},
		"short":     {"x", 0, `begins with "x"`},
		"xz":        {"\xfd7zXZ\x00rest", 0, "xz is not supported"},
		"zip":       {"PK\x03\x04rest", 0, "zip is not supported"},
		"bad gzip":  {"\x1f\x8b\xff\xff", 0, "open log"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "access.log")
			if err := os.WriteFile(file, []byte(tt.data), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, from := range []string{file, "-"} {
				entries := 0
				src, err := accesslog.Open(from, strings.NewReader(tt.data))
				if err == nil {
					entries, err = readAll(t, accesslog.NewReader(src, nil))
					if cerr := src.Close(); cerr != nil {
						t.Error(cerr)
					}
				}
				if entries != tt.entries || (tt.problem == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.problem) {
					t.Errorf("%s: %d entries, %v; want %d, %q", from, entries, err, tt.entries, tt.problem)
				}
			}
		})
	}
	if _, err := accesslog.Open(t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("a directory: %v", err)
	}
	if _, err := accesslog.Open(filepath.Join(t.TempDir(), "none"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestOneAllocationForALine(t *testing.T) {
	race.SkipAllocations(t)
	f, err := accesslog.Named("combined")
	if err != nil {
		t.Fatal(err)
	}
	p, b := f.NewParser(), []byte(line)
	var e accesslog.Entry
	if n := testing.AllocsPerRun(100, func() {
		if err := p.Parse(b, &e); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("%v allocations, want 1", n)
	}
}
