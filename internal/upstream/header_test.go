package upstream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
)

// headLines returns the header lines of a captured request, sorted, without the
// request line.
func headLines(head string) []string {
	lines := strings.Split(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n")[1:]
	slices.Sort(lines)
	return lines
}

func TestRequestHeaderKeepsWhatIsEndToEnd(t *testing.T) {
	cfg, heads := capturing(t)
	f := newFront(t, frontOptions{cfg: cfg})
	for _, test := range []struct {
		name, send string
		want       []string
	}{
		{
			"plain",
			"GET / HTTP/1.1\r\nHost: a\r\nAccept: x\r\nAccept-Encoding: br\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n",
			[]string{"Accept-Encoding: br", "Accept: x", "Cookie: a=1", "Cookie: b=2", "Host: a", "Via: 1.1 quickthorn"},
		}, {
			"hop by hop",
			"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Secret , close, cookie\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nProxy-Authorization: y\r\nX-Secret: z\r\nX_secret: w\r\nCookie: c\r\nTE: gzip\r\nTransfer_Encoding: chunked\r\nContent_Length: 5\r\n\r\n",
			[]string{"Host: a", "Via: 1.1 quickthorn"},
		}, {
			"trailers accepted",
			"GET / HTTP/1.1\r\nHost: a\r\nTE: gzip;q=0.1, trailers\r\nConnection: TE\r\n\r\n",
			[]string{"Connection: TE", "Host: a", "TE: trailers", "Via: 1.1 quickthorn"},
		}, {
			"upgrade to HTTP/2 is not passed",
			"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
			[]string{"Host: a", "Via: 1.1 quickthorn"},
		}, {
			"nor among others",
			"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket, H2C\r\n\r\n",
			[]string{"Host: a", "Via: 1.1 quickthorn"},
		}, {
			"nor TLS",
			"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: TLS/1.0, HTTP/1.1\r\n\r\n",
			[]string{"Host: a", "Via: 1.1 quickthorn"},
		}, {
			"Upgrade without Connection is nothing",
			"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
			[]string{"Host: a", "Via: 1.1 quickthorn"},
		}, {
			"upgrade",
			"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, upgrade\r\nUpgrade: irc/6.9\r\n\r\n",
			[]string{"Connection: Upgrade", "Host: a", "Upgrade: irc/6.9", "Via: 1.1 quickthorn"},
		}, {
			"an HTTP/1.0 client",
			"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
			[]string{"Host: a", "Via: 1.0 quickthorn"},
		}, {
			"earlier proxies",
			"GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 x\r\nVia: 1.0 y\r\n\r\n",
			[]string{"Host: a", "Via: 1.0 y", "Via: 1.1 quickthorn", "Via: 1.1 x"},
		}, {
			"an empty POST keeps its length",
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
			[]string{"Content-Length: 0", "Host: a", "Via: 1.1 quickthorn"},
		}, {
			"an underscore of no meaning",
			"GET / HTTP/1.1\r\nHost: a\r\nmy_token: 1\r\nempty:\r\n\r\n",
			[]string{"Empty: ", "Host: a", "My_token: 1", "Via: 1.1 quickthorn"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if res, _ := f.ask(t, test.send); res.StatusCode != 204 {
				t.Fatalf("status %d %s", res.StatusCode, res.Header.Get("Failure"))
			}
			got := headLines(receive(t, heads, "the request"))
			if !slices.Equal(got, test.want) {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

func TestViaCanBeLeftOut(t *testing.T) {
	cfg, heads := capturing(t)
	cfg.OmitVia = true
	f := newFront(t, frontOptions{cfg: cfg})
	f.ask(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if head := receive(t, heads, "the request"); strings.Contains(head, "Via") {
		t.Errorf("%q", head)
	}
}

// The payloads follow the kinds of the Request Smuggling page of
// PayloadsAllTheThings (MIT licence). Each hides a request for /smuggled.
func TestRequestsCannotBeSmuggled(t *testing.T) {
	const hidden = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(s), s) }
	head := func(fields string) string { return "POST /outer HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n" }
	for _, test := range []struct{ name, send string }{
		{"CL.TE", head("Content-Length: 43\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n" + hidden},
		{"TE.CL", head("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n") + chunk(hidden)},
		{"TE.TE other coding", head("Transfer-Encoding: xchunked\r\nContent-Length: 4\r\n") + chunk(hidden)},
		{"TE with space", head("Transfer-Encoding : chunked\r\nContent-Length: 4\r\n") + chunk(hidden)},
		{"TE twice", head("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\nContent-Length: 4\r\n") + chunk(hidden)},
		{"TE after tab", head("Transfer-Encoding:\tchunked\r\nContent-Length: 4\r\n") + chunk(hidden)},
		{"TE folded", head("X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n") + "0\r\n\r\n" + hidden},
		{"TE behind LF", head("X: X\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n") + "0\r\n\r\n" + hidden},
		{"TE behind CR", head("X: X\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n") + "0\r\n\r\n" + hidden},
		{"TE line broken", head("Transfer-Encoding\r\n: chunked\r\nContent-Length: 5\r\n") + "0\r\n\r\n" + hidden},
		{"TE with underscore", head("Transfer_Encoding: chunked\r\nContent-Length: 5\r\n") + "0\r\n\r\n"},
		{"two lengths", head("Content-Length: 5\r\nContent-Length: 6\r\n") + "0\r\n\r\n" + hidden},
		{"signed length", head("Content-Length: +5\r\n") + "0\r\n\r\n" + hidden},
		{"length list", head("Content-Length: 5, 5\r\n") + "0\r\n\r\n" + hidden},
		{"length named in Connection", head("Connection: Content-Length\r\nContent-Length: 5\r\n") + "0\r\n\r\n"},
		{"TE named in Connection", head("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n") + chunk(hidden)},
		{"chunk with bare LF", head("Transfer-Encoding: chunked\r\n") + "5\nhello\r\n0\r\n\r\n" + hidden},
		{"chunk size overflow", head("Transfer-Encoding: chunked\r\n") + "10000000000000005\r\nhello\r\n0\r\n\r\n" + hidden},
		{"GET with a body that is a request", "GET /outer HTTP/1.1\r\nHost: a\r\nContent-Length: 38\r\n\r\n" + hidden + "xx"},
		{"space in target", "GET /outer HTTP/1.1 /x HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"odd host", "GET /outer HTTP/1.1\r\nHost: a/../b\r\n\r\n"},
		{"two hosts", "GET /outer HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			// The origin records how it frames what reaches it, by the strictest reading.
			type message struct {
				head string
				err  error
			}
			seen := make(chan message, 16)
			cfg := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
				for {
					head, err := readHeader(r)
					if err != nil {
						return
					}
					req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(head), r)))
					if err == nil {
						if strings.Count(head, "\nContent-Length:")+strings.Count(head, "\nTransfer-Encoding:") > 1 {
							err = errors.New("framed twice")
						}
						if err == nil {
							_, err = io.Copy(io.Discard, req.Body)
						}
					}
					seen <- message{head, err}
					if err != nil {
						return
					}
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Outer: 1\r\n\r\n")
				}
			})
			f := newFront(t, frontOptions{cfg: cfg})
			c := f.dial(t)
			c.send(t, test.send+"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			// Whatever the front makes of it, it must make the same of it as the
			// origin: as many requests reached the origin as the front forwarded.
			if _, err := io.Copy(io.Discard, c); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the front waits for more")
			}
			f.Server.Close()
			close(f.outcomes)
			answered := 0
			for o := range f.outcomes {
				if o.err == nil {
					answered++
				}
			}
			for len(seen) > 0 {
				m := <-seen
				if errors.Is(m.err, io.ErrUnexpectedEOF) {
					continue // broken off, as the origin could see
				}
				if answered--; m.err != nil {
					t.Errorf("the origin cannot frame %q: %v", m.head, m.err)
				}
				// Only the front's own reading may make a request of the hidden one.
				if strings.Contains(m.head, "/smuggled") && !strings.HasPrefix(m.head, "GET /smuggled HTTP/1.1\r\n") {
					t.Errorf("hidden in %q", m.head)
				}
			}
			if answered != 0 {
				t.Errorf("the front relayed %d more answers than the origin had requests", answered)
			}
		})
	}
}

func TestForwardRefusesBytesThatWouldSplitARequest(t *testing.T) {
	cfg, heads := capturing(t)
	u, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	h2cfg := serve(t, "h2c", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %q reached the origin", r.Method, r.RequestURI)
	})
	h2, err := New(h2cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer h2.Close()
	for name, change := range map[string]func(*http.Request, *Options){
		"space in target":         func(r *http.Request, _ *Options) { r.RequestURI = "/a HTTP/1.1" },
		"line break in target":    func(r *http.Request, _ *Options) { r.RequestURI = "/a\r\nX: y" },
		"NUL in target":           func(r *http.Request, _ *Options) { r.RequestURI = "/a\x00" },
		"DEL in target":           func(r *http.Request, _ *Options) { r.RequestURI = "/a\x7f" },
		"relative target":         func(r *http.Request, _ *Options) { r.RequestURI = "a/b" },
		"authority":               func(r *http.Request, _ *Options) { r.RequestURI = "a:80" },
		"other scheme":            func(r *http.Request, _ *Options) { r.RequestURI = "ftp://a/b" },
		"no authority":            func(r *http.Request, _ *Options) { r.RequestURI = "http:///b" },
		"asterisk":                func(r *http.Request, _ *Options) { r.RequestURI = "*" },
		"bad override of target":  func(_ *http.Request, o *Options) { o.Target = "/a b" },
		"line break in method":    func(r *http.Request, _ *Options) { r.Method = "GET / HTTP/1.1\r\nX:" },
		"CONNECT":                 func(r *http.Request, _ *Options) { r.Method = "CONNECT" },
		"no method":               func(r *http.Request, _ *Options) { r.Method = "" },
		"line break in host":      func(r *http.Request, _ *Options) { r.Host = "a\r\nX: y" },
		"space in host":           func(r *http.Request, _ *Options) { r.Host = "a b" },
		"path in host":            func(r *http.Request, _ *Options) { r.Host = "a/b" },
		"non-ASCII host":          func(r *http.Request, _ *Options) { r.Host = "b\u00fccher.example" },
		"bad override of host":    func(_ *http.Request, o *Options) { o.Host = "a\n" },
		"line break in value":     func(r *http.Request, _ *Options) { r.Header["X"] = []string{"a\r\nContent-Length: 5"} },
		"LF in value":             func(r *http.Request, _ *Options) { r.Header["X"] = []string{"a\nb"} },
		"CR in value":             func(r *http.Request, _ *Options) { r.Header["X"] = []string{"a\rb"} },
		"NUL in value":            func(r *http.Request, _ *Options) { r.Header["X"] = []string{"a\x00b"} },
		"colon in name":           func(r *http.Request, _ *Options) { r.Header["X: y\r\nZ"] = []string{"a"} },
		"space in name":           func(r *http.Request, _ *Options) { r.Header["Transfer-Encoding "] = []string{"chunked"} },
		"empty name":              func(r *http.Request, _ *Options) { r.Header[""] = []string{"a"} },
		"line break in set value": func(_ *http.Request, o *Options) { o.Set = []Field{{"X", "a\r\nb: c"}} },
		"line break in set name":  func(_ *http.Request, o *Options) { o.Set = []Field{{"X\r\nY", "a"}} },
		"framing set":             func(_ *http.Request, o *Options) { o.Set = []Field{{"Content-Length", "5"}} },
		"framing set otherwise":   func(_ *http.Request, o *Options) { o.Set = []Field{{"transfer_encoding", "chunked"}} },
	} {
		t.Run(name, func(t *testing.T) {
			for _, up := range []*Upstream{u, h2} {
				r := get(t, t.Context(), "http://a/")
				o := &Options{}
				change(r, o)
				w := &sink{h: http.Header{}}
				res, err := up.Forward(w, r, o)
				if !errors.Is(err, ErrRequest) || res.Started || res.Failure != FailureRequest || len(w.h) > 0 {
					t.Errorf("%+v, %v, header %v", res, err, w.h)
				}
			}
			select {
			case head := <-heads:
				t.Errorf("reached the origin: %q", head)
			default:
			}
		})
	}
}

func TestTrailerFieldsThatSteerAreNotRelayed(t *testing.T) {
	for _, name := range []string{"Content-Length", "transfer-encoding", "Host", "Authorization", "Set-Cookie", "Content-Type", "X-Forwarded-For", "x_forwarded_for", "Trailer", "If-Match", "", "a b"} {
		if trailerAllowed(name) {
			t.Errorf("%q is allowed", name)
		}
	}
	for _, name := range []string{"Grpc-Status", "Grpc-Message", "Server-Timing", "Digest", "X-Checksum"} {
		if !trailerAllowed(name) {
			t.Errorf("%q is not", name)
		}
	}
}

func FuzzRequestHead(f *testing.F) {
	f.Add("GET", "/a?b", "example.org", "X-A", "b", "Connection", "close")
	f.Add("POST", "/a\r\nX: y", "a", "Transfer-Encoding", "chunked", "X", "a\r\n\r\nGET / HTTP/1.1")
	f.Add("get", "http://a//b", "a:80", "Trailer", "X", "Upgrade", "websocket")
	f.Fuzz(func(t *testing.T, method, target, host, n1, v1, n2, v2 string) {
		r := &http.Request{Method: method, RequestURI: target, Host: host, Header: http.Header{n1: {v1}, n2: {v2, v1}}, ProtoMajor: 1, ProtoMinor: 1}
		var q outgoing
		if q.prepare(r, &Options{Set: []Field{{"X-Set", "1"}}}, "default") != nil {
			return
		}
		b, err := q.appendHead(nil)
		if err != nil {
			return
		}
		// What was not refused is one request, with the given target, and no body.
		br := bufio.NewReader(strings.NewReader(string(b)))
		line, err := br.ReadString('\n')
		if err != nil || line != method+" "+q.target+" HTTP/1.1\r\n" {
			t.Fatalf("request line %q", line)
		}
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				t.Fatalf("no end: %q", b)
			}
			if line == "\r\n" {
				break
			}
			name, _, ok := strings.Cut(line, ":")
			if !ok || !allOf(name, tokenByte) || sameField(name, "Transfer-Encoding") {
				t.Fatalf("line %q", line)
			}
		}
		if br.Buffered() != 0 {
			t.Fatalf("more than one message: %q", b)
		}
	})
}
