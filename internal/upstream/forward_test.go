package upstream

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var waysOut = []string{"http", "unix", "https", "h2c"}

// eachWay runs a test for every combination of protocols in and out.
func eachWay(t *testing.T, origin http.HandlerFunc, o frontOptions, test func(t *testing.T, f *front)) {
	for _, out := range waysOut {
		for _, in := range []string{"h1", "h2", "h2c"} {
			t.Run(in+" to "+out, func(t *testing.T) {
				o := o
				cfg := serve(t, out, origin)
				o.cfg.URL, o.cfg.TLS = cfg.URL, cfg.TLS
				o.http2, o.h2c = in == "h2", in == "h2c"
				test(t, newFront(t, o))
			})
		}
	}
}

func TestForwardRelaysRequestAndAnswer(t *testing.T) {
	type seen struct {
		Method, Target, Host, Body, Accept, Encoding string
		Length                                       int64
		Via                                          []string
	}
	var mu sync.Mutex
	var got seen
	origin := func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		got = seen{r.Method, r.RequestURI, r.Host, string(b), r.Header.Get("Accept"), r.Header.Get("Accept-Encoding"), r.ContentLength, r.Header["Via"]}
		mu.Unlock()
		w.Header()["Set-Cookie"] = []string{"a=1; Path=/", "b=2; Path=/"}
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, "made")
	}
	eachWay(t, origin, frontOptions{}, func(t *testing.T, f *front) {
		r, err := http.NewRequest("POST", f.URL+"/form?a=%zz&b=;", strings.NewReader("name=value"))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "wiki.example.org"
		r.Header.Set("Accept", "text/html")
		r.Header.Set("Via", "1.0 fred")
		res, err := f.client(t).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || string(body) != "made" || res.StatusCode != 201 {
			t.Errorf("answer %d %q, %v", res.StatusCode, body, err)
		}
		if d := cmp.Diff([]string{"a=1; Path=/", "b=2; Path=/"}, res.Header["Set-Cookie"]); d != "" {
			t.Errorf("Set-Cookie: %s", d)
		}
		mu.Lock()
		defer mu.Unlock()
		version := "1.1"
		if res.ProtoMajor == 2 {
			version = "2.0"
		}
		want := seen{"POST", "/form?a=%zz&b=;", "wiki.example.org", "name=value", "text/html", "", 10, []string{"1.0 fred", version + " quickthorn"}}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("the origin saw (-want +got):\n%s", d)
		}
		o := f.outcome(t)
		if o.err != nil || o.Status != 201 || o.Bytes != 4 || !o.Started || o.HeaderDuration <= 0 || o.Failure != FailureNone {
			t.Errorf("result %+v", o)
		}
	})
}

func TestForwardKeepsTargetByteForByte(t *testing.T) {
	targets := []string{
		"/", "//", "//a//b", "///etc", "/a%2Fb", "/a%2fb", "/a;v=1/b;c", "/%2e%2e/x", "/../x", "/./", "/a/%2E./", "/a|b", `/a"b`, "/<b>", "/a?", "/a??",
		"/?a=%zz&b=%", "/?q=a|b\"<>", "/caf\xc3\xa9", "/?\xff\xfe", "/a+b%20c", "/%00", "/a\\b", "/{x}^`", "/?a=1#frag", "/a:b@c", "/*", "/http://other/",
		"/?url=http://a/b?c", "/[::1]", "/%E2%82%AC?%E2%82%AC=%e2%82%ac",
	}
	for _, out := range waysOut {
		t.Run(out, func(t *testing.T) {
			f := newFront(t, frontOptions{cfg: serve(t, out, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Got", strconv.QuoteToASCII(r.RequestURI))
			})})
			c := f.dial(t)
			for _, target := range targets {
				c.send(t, "GET "+target+" HTTP/1.1\r\nHost: a.example\r\n\r\n")
				res, _ := c.answer(t, "GET")
				if got := res.Header.Get("Got"); got != strconv.QuoteToASCII(target) {
					t.Errorf("%q arrived as %s (status %d %s)", target, got, res.StatusCode, res.Header.Get("Failure"))
				}
			}
		})
	}
	t.Run("from HTTP/2", func(t *testing.T) {
		f := newFront(t, frontOptions{h2c: true, cfg: serve(t, "http", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Got", strconv.QuoteToASCII(r.RequestURI))
		})})
		client := f.client(t)
		for _, target := range targets {
			if strings.HasPrefix(target, "//") {
				continue // the client of net/http cannot ask for it
			}
			r := get(t, t.Context(), f.URL)
			r.URL = &url.URL{Scheme: "http", Host: f.Listener.Addr().String(), Opaque: target}
			res, err := client.Do(r)
			if err != nil {
				t.Errorf("%q: %v", target, err)
				continue
			}
			res.Body.Close()
			if got := res.Header.Get("Got"); got != strconv.QuoteToASCII(target) {
				t.Errorf("%q arrived as %s (status %d)", target, got, res.StatusCode)
			}
		}
	})
}

func TestForwardTurnsOtherFormsOfTargetIntoOriginForm(t *testing.T) {
	cfg, heads := capturing(t)
	f := newFront(t, frontOptions{cfg: cfg})
	for _, test := range []struct{ request, line, host string }{
		{"GET http://b.example/x//y?z=%zz HTTP/1.1\r\nHost: a.example\r\n\r\n", "GET /x//y?z=%zz HTTP/1.1", "b.example"},
		{"GET HTTP://b.example:81 HTTP/1.1\r\nHost: a.example\r\n\r\n", "GET / HTTP/1.1", "b.example:81"},
		{"GET https://b.example?q HTTP/1.1\r\nHost: a.example\r\n\r\n", "GET /?q HTTP/1.1", "b.example"},
		{"OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n", "OPTIONS * HTTP/1.1", "a.example"},
		{"OPTIONS http://b.example HTTP/1.1\r\nHost: a.example\r\n\r\n", "OPTIONS * HTTP/1.1", "b.example"},
		{"GET /old HTTP/1.0\r\n\r\n", "GET /old HTTP/1.1", strings.TrimPrefix(cfg.URL, "http://")},
	} {
		res, _ := f.ask(t, test.request)
		if res.StatusCode != 204 {
			t.Errorf("%.40q: status %d %s", test.request, res.StatusCode, res.Header.Get("Failure"))
			continue
		}
		head := receive(t, heads, "the request")
		if !strings.HasPrefix(head, test.line+"\r\nHost: "+test.host+"\r\n") {
			t.Errorf("%.40q became %q", test.request, head)
		}
	}
}

func TestForwardPassesUnusualMethods(t *testing.T) {
	eachWay(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Method", r.Method) }, frontOptions{}, func(t *testing.T, f *front) {
		client := f.client(t)
		for _, m := range []string{"PROPFIND", "REPORT", "MKCOL", "MOVE", "QUERY", "PURGE", "get", "x-Custom!", "TRACE", "DELETE", "OPTIONS"} {
			r, err := http.NewRequest(m, f.URL+"/dav/", nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if got := res.Header.Get("Method"); got != m {
				t.Errorf("%s arrived as %s, status %d", m, got, res.StatusCode)
			}
		}
	})
}

func TestForwardOptionsChangeTheRequest(t *testing.T) {
	eachWay(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Target", r.RequestURI)
		w.Header().Set("Host-Seen", r.Host)
		for _, n := range []string{"X-Real-Ip", "X_real_ip", "X-Forwarded-For", "Quickthorn-Client", "Quickthorn_client", "Accept", "Gone"} {
			w.Header()["Seen-"+http.CanonicalHeaderKey(n)] = r.Header[n]
		}
	}, frontOptions{options: func(r *http.Request) *Options {
		return &Options{
			Target: "/elsewhere?x", Host: "inner.example:8080",
			Set:      []Field{{"X-Real-Ip", "203.0.113.7"}, {"X-Forwarded-For", "198.51.100.1, 203.0.113.7"}, {"Gone", ""}},
			Drop:     func(name string) bool { return strings.HasPrefix(name, "Quickthorn-") },
			OnHeader: func(status int, h http.Header) { h.Set("Status-Seen", strconv.Itoa(status)); h.Del("Server-Secret") },
		}
	}}, func(t *testing.T, f *front) {
		r := get(t, t.Context(), f.URL+"/here")
		r.Header = http.Header{
			"X-Real-Ip": {"6.6.6.6"}, "X_real_ip": {"6.6.6.6"}, "X-Forwarded-For": {"6.6.6.6"}, "Quickthorn-Client": {"evil"}, "Quickthorn_client": {"evil"},
			"Accept": {"*/*"}, "Gone": {"yes"}, "Connection": {"X-Real-Ip, X-Forwarded-For"},
		}
		if f.TLS != nil || f.Config.Protocols != nil {
			r.Header.Del("Connection") // HTTP/2 has none
		}
		res, err := f.client(t).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		got := map[string]string{}
		for n, v := range res.Header {
			if strings.HasPrefix(n, "Seen-") || n == "Target" || n == "Host-Seen" || n == "Status-Seen" {
				got[n] = strings.Join(v, "|")
			}
		}
		want := map[string]string{
			"Target": "/elsewhere?x", "Host-Seen": "inner.example:8080", "Status-Seen": "200", "Seen-Accept": "*/*",
			"Seen-X-Real-Ip": "203.0.113.7", "Seen-X-Forwarded-For": "198.51.100.1, 203.0.113.7",
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
}

func TestForwardAddsToTheCallersHeader(t *testing.T) {
	f := newFront(t, frontOptions{
		cfg: answering(t, "HTTP/1.1 200 OK\r\nSet-Cookie: app=1\r\nContent-Length: 0\r\n\r\n", false),
		wrap: func(w http.ResponseWriter) http.ResponseWriter {
			w.Header().Set("Set-Cookie", "clearance=1")
			return w
		},
	})
	res, _ := f.ask(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if d := cmp.Diff([]string{"clearance=1", "app=1"}, res.Header["Set-Cookie"]); d != "" {
		t.Error(d)
	}
}

func TestForwardRelaysAnswersOfEveryShape(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 40<<10) // 640 KiB
	for _, test := range []struct {
		name, method, answer string
		close                bool
		status               int
		length               int64 // as the client sees it, -1 unknown, -2 either
		body                 string
		header               map[string]string
	}{
		{"known length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/x\r\n\r\nhello", false, 200, 5, "hello", map[string]string{"Content-Type": "text/x"}},
		{"no content type is not made up", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", false, 200, 6, "<html>", map[string]string{"Content-Type": ""}},
		{"long", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 655360\r\n\r\n" + long, false, 200, 655360, long, nil},
		{"chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5;ext=\"a\"\r\nhello\r\n01 \r\n!\r\n0\r\n\r\n", false, 200, 6, "hello!", nil},
		{"long chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na0000\r\n" + long + "\r\n0\r\n\r\n", false, 200, -1, long, nil},
		{"until close", "GET", "HTTP/1.1 200 OK\r\nX: y\r\n\r\n" + long, true, 200, -1, long, nil},
		{"HTTP/1.0 until close", "GET", "HTTP/1.0 200 OK\r\n\r\nold", true, 200, -2, "old", nil},
		{"HTTP/1.0 with length", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold", false, 200, 3, "old", nil},
		{"HTTP/1.0 chunked", "GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nold\r\n0\r\n\r\n", true, 200, 3, "old", nil},
		{"HEAD with length", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1234567\r\nETag: \"a\"\r\n\r\n", false, 200, 1234567, "", map[string]string{"Etag": `"a"`}},
		{"HEAD chunked", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, 200, -1, "", nil},
		{"204", "DELETE", "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", false, 204, 0, "", map[string]string{"X": "y"}},
		{"304", "GET", "HTTP/1.1 304 Not Modified\r\nETag: W/\"1\"\r\nContent-Length: 77\r\n\r\n", false, 304, 0, "", map[string]string{"Etag": `W/"1"`}},
		{"206", "GET", "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-4/10\r\nContent-Length: 3\r\n\r\n234", false, 206, 3, "234", map[string]string{"Content-Range": "bytes 2-4/10"}},
		{"416", "GET", "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */10\r\nContent-Length: 0\r\n\r\n", false, 416, 0, "", map[string]string{"Content-Range": "bytes */10"}},
		{"gzip stays gzip", "GET", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08", false, 200, 3, "\x1f\x8b\x08", map[string]string{"Content-Encoding": "gzip"}},
		{"redirect", "GET", "HTTP/1.1 302 Found\r\nLocation: //x/\r\nContent-Length: 0\r\n\r\n", false, 302, 0, "", map[string]string{"Location": "//x/"}},
		{"status without reason", "GET", "HTTP/1.1 299\r\nContent-Length: 0\r\n\r\n", false, 299, 0, "", nil},
		{"unknown status", "GET", "HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n", false, 799, 0, "", nil},
		{"bare LF", "GET", "HTTP/1.1 200 OK\nA: b\nContent-Length: 2\n\nok", false, 200, 2, "ok", map[string]string{"A": "b"}},
		{"folded field", "GET", "HTTP/1.1 200 OK\r\nA: b\r\n  c \r\n\td\r\nContent-Length: 0\r\n\r\n", false, 200, 0, "", map[string]string{"A": "b c d"}},
		{"space before colon", "GET", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\nA\t: b\r\n\r\nok", false, 200, 2, "ok", map[string]string{"A": "b"}},
		{"space in name is left out", "GET", "HTTP/1.1 200 OK\r\nA B: c\r\nContent-Length: 2\r\n\r\nok", false, 200, 2, "ok", map[string]string{"A B": ""}},
		{"lower-case names", "GET", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-powered-by: y\r\n\r\nok", false, 200, 2, "ok", map[string]string{"X-Powered-By": "y"}},
		{"same length twice", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", false, 200, 2, "ok", nil},
		{"obs-text", "GET", "HTTP/1.1 200 OK\r\nA: caf\xe9\r\nContent-Length: 0\r\n\r\n", false, 200, 0, "", map[string]string{"A": "caf\xe9"}},
		{"hop-by-hop fields stay", "GET", "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop, x_other\r\nKeep-Alive: timeout=5\r\nX-Hop: a\r\nX-Other: b\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nTE: x\r\nContent-Length: 0\r\nX-End: c\r\n\r\n",
			false, 200, 0, "", map[string]string{"X-Hop": "", "X-Other": "", "Keep-Alive": "", "Proxy-Authenticate": "", "Upgrade": "", "Te": "", "X-End": "c", "Connection": ""}},
		{"Connection cannot take the length away", "GET", "HTTP/1.1 200 OK\r\nConnection: Content-Length\r\nContent-Length: 2\r\n\r\nok", false, 200, 2, "ok", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFront(t, frontOptions{cfg: answering(t, test.answer, test.close)})
			c := f.dial(t)
			for range 2 { // the second on kept connections
				c.send(t, test.method+" / HTTP/1.1\r\nHost: a\r\n\r\n")
				res, body := c.answer(t, test.method)
				if o := f.outcome(t); o.err != nil || o.Bytes != int64(len(body)) || o.Status != test.status {
					t.Fatalf("result %+v", o)
				}
				if res.StatusCode != test.status || body != test.body {
					t.Errorf("status %d, body %d bytes %.30q", res.StatusCode, len(body), body)
				}
				if test.length != -2 && res.ContentLength != test.length && !(test.length == 0 && res.StatusCode == 304) {
					t.Errorf("length %d, want %d", res.ContentLength, test.length)
				}
				if res.Close {
					t.Error("the client's connection ends because the upstream's does")
				}
				for n, want := range test.header {
					if got := strings.Join(res.Header[n], ","); got != want {
						t.Errorf("%s: %q, want %q", n, got, want)
					}
				}
			}
		})
	}
}

func TestForwardServesFilesAsTheOriginWould(t *testing.T) {
	content := bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog.\n"), 8<<10)
	modified := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	eachWay(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"fox"`)
		http.ServeContent(w, r, "fox.txt", modified, bytes.NewReader(content))
	}, frontOptions{}, func(t *testing.T, f *front) {
		client := f.client(t)
		for _, test := range []struct {
			name, header, value string
			status              int
			body                []byte
		}{
			{"whole", "X", "y", 200, content},
			{"range", "Range", "bytes=1000-1999", 206, content[1000:2000]},
			{"suffix", "Range", "bytes=-5", 206, content[len(content)-5:]},
			{"absurd range", "Range", "bytes=999999999-", 416, nil},
			{"same etag", "If-None-Match", `"fox"`, 304, nil},
			{"not since", "If-Modified-Since", modified.Format(http.TimeFormat), 304, nil},
			{"other etag", "If-Match", `"hen"`, 412, nil},
		} {
			r := get(t, t.Context(), f.URL+"/fox.txt")
			r.Header.Set(test.header, test.value)
			res, err := client.Do(r)
			if err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
			b, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || res.StatusCode != test.status || test.body != nil && !bytes.Equal(b, test.body) {
				t.Errorf("%s: status %d, %d bytes, %v", test.name, res.StatusCode, len(b), err)
			}
		}
	})
}

func TestForwardKeepsConnectionsOnBothSides(t *testing.T) {
	for _, out := range waysOut {
		t.Run(out, func(t *testing.T) {
			f := newFront(t, frontOptions{cfg: serve(t, out, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })})
			c := f.dial(t)
			first := ""
			for i := range 20 {
				c.send(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				_, body := c.answer(t, "GET")
				if i == 0 {
					first = body
				} else if body != first {
					t.Fatalf("request %d came over %q, the first over %q", i, body, first)
				}
			}
		})
	}
}

func TestForwardManyAtOnce(t *testing.T) {
	eachWay(t, func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprintf(w, "%s %d %x", r.URL.Path, n, h.Sum(nil))
	}, frontOptions{}, func(t *testing.T, f *front) {
		client := f.client(t)
		errs := make(chan error, 16)
		for i := range cap(errs) {
			go func() {
				errs <- func() error {
					for j := range 6 {
						body := bytes.Repeat([]byte{byte(i), byte(j)}, i*j*400)
						path := fmt.Sprintf("/%d/%d", i, j)
						var rd io.Reader = bytes.NewReader(body)
						if j%2 == 0 {
							rd = io.MultiReader(rd) // length unknown
						}
						res, err := client.Post(f.URL+path, "application/octet-stream", rd)
						if err != nil {
							return err
						}
						got, err := io.ReadAll(res.Body)
						res.Body.Close()
						if err != nil {
							return err
						}
						if want := fmt.Sprintf("%s %d %x", path, len(body), sha256.Sum256(body)); string(got) != want {
							return fmt.Errorf("got %q, want %q", got, want)
						}
					}
					return nil
				}()
			}()
		}
		for range cap(errs) {
			if err := receive(t, errs, "a client"); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestNewRefusesWhatItCannotServe(t *testing.T) {
	for _, test := range []struct {
		cfg  Config
		want string
	}{
		{Config{URL: ""}, "scheme"},
		{Config{URL: "127.0.0.1:3000"}, ""},
		{Config{URL: "ftp://a"}, "scheme"},
		{Config{URL: "http://"}, "host"},
		{Config{URL: "http://a b"}, ""},
		{Config{URL: "http://a/path"}, "only scheme, host and port"},
		{Config{URL: "http://user:secret@a"}, "only scheme, host and port"},
		{Config{URL: "http://a?x"}, "only scheme, host and port"},
		{Config{URL: "unix:relative.sock"}, "absolute path"},
		{Config{URL: "http://a", ConnectTimeout: -1}, "ConnectTimeout is negative"},
		{Config{URL: "http://a", MaxIdle: -1}, "MaxIdle is negative"},
		{Config{URL: "http://a", MaxResponseHeaderBytes: 10}, "less than 1024"},
	} {
		u, err := New(test.cfg)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v", test.cfg, err)
		}
		if u != nil {
			t.Errorf("%q: an upstream besides the error", test.cfg.URL)
		}
	}
	for _, ok := range []string{"http://a", "http://[::1]:80/", "https://a:8443", "h2c://a", "unix:/run/a.sock", "unix:///run/a.sock", "unix:@abstract"} {
		u, err := New(Config{URL: ok})
		if err != nil {
			t.Error(err)
			continue
		}
		u.Close()
	}
}

func TestFailuresAreErrorsWithNamesAndCodes(t *testing.T) {
	names := map[string]bool{}
	for f := FailureNone; f < FailureKinds; f++ {
		names[f.String()] = true
		if f == FailureNone {
			continue
		}
		err := fmt.Errorf("wrapped: %w", &Error{Failure: f, Err: io.ErrUnexpectedEOF})
		if !errors.Is(err, f) || !errors.Is(err, io.ErrUnexpectedEOF) || KindOf(err) != f || f.Status() < 400 {
			t.Errorf("%v: %v, kind %v, status %d", f, err, KindOf(err), f.Status())
		}
	}
	if len(names) != int(FailureKinds) {
		t.Errorf("names %v", names)
	}
	if KindOf(io.EOF) != FailureNone || FailureNone.Status() != 0 {
		t.Error("an error of somebody else is a failure")
	}
}
