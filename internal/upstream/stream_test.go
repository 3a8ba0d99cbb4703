package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEventsReachTheClientBeforeTheNextIsSent(t *testing.T) {
	next := make(chan struct{}) // the client has seen the last one
	eachWay(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		rc := http.NewResponseController(w)
		rc.Flush()
		for i := range 3 {
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
			fmt.Fprintf(w, "data: %d\n\n", i)
			rc.Flush()
		}
	}, frontOptions{}, func(t *testing.T, f *front) {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		res, err := f.client(t).Do(get(t, ctx, f.URL)) // returns with the header, before any event
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		r := bufio.NewReader(res.Body)
		for i := range 3 {
			next <- struct{}{}
			line, err := r.ReadString('\n')
			if err != nil || line != fmt.Sprintf("data: %d\n", i) {
				t.Fatalf("event %d: %q, %v", i, line, err)
			}
			r.ReadString('\n')
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("after the last: %v", err)
		}
	})
}

func TestSlowAnswersAreSentOnWhateverTheirFraming(t *testing.T) {
	for name, pieces := range map[string][]string{
		"known length": {"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", "ab", "cd", "ef"},
		"chunked":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "2\r\nab\r\n", "2\r\ncd", "\r\n2\r\nef\r\n"},
		"until close":  {"HTTP/1.0 200 OK\r\n\r\n", "ab", "cd", "ef"},
	} {
		t.Run(name, func(t *testing.T) {
			next := make(chan struct{})
			done := make(chan struct{})
			defer close(done)
			f := newFront(t, frontOptions{cfg: rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
				readHeader(r)
				for _, p := range pieces {
					io.WriteString(c, p)
					select {
					case <-next:
					case <-done:
						return
					}
				}
				if name == "chunked" {
					io.WriteString(c, "0\r\n\r\n")
				}
			})})
			c := f.dial(t)
			c.send(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			res, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"ab", "cd", "ef"} {
				next <- struct{}{}
				got := make([]byte, 2)
				if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != want {
					t.Fatalf("%q, %v", got, err)
				}
			}
			next <- struct{}{}
			if _, err := res.Body.Read(make([]byte, 1)); err != io.EOF {
				t.Error(err)
			}
		})
	}
}

func TestWaitingStreamsHoldNoBuffer(t *testing.T) {
	f := newFront(t, frontOptions{cfg: answering(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", false)})
	if newConn(&net.TCPConn{}).raw == nil && runtime.GOOS == "windows" {
		t.Skip("reads wait with the buffer here")
	}
	const n = 200
	grow := func() uint64 {
		runtime.GC()
		runtime.GC() // empties the pools
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := grow()
	for range n {
		c := f.dial(t)
		c.send(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Body, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
	}
	// Client, net/http's server and origin hold about 18 KiB a connection.
	if each := (grow() - before) / n; each > 18<<10+bufferSize {
		t.Errorf("%d bytes for each stream", each)
	}
}

// counter is an origin's record of an upload.
func counting(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	fmt.Fprintf(w, "%d %v %d %v", n, err, r.ContentLength, r.TransferEncoding)
}

// zeros is a body of n bytes that calls each now and then.
type zeros struct {
	n    int64
	each func(left int64)
}

func (z *zeros) Read(p []byte) (int, error) {
	if z.n == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.n)
	clear(p[:n])
	z.n -= n
	z.each(z.n)
	return int(n), nil
}

// TestUploadsAreStreamed sends 256 MiB, or as many as UPSTREAM_UPLOAD_MIB says
// (4096 for the published figure).
func TestUploadsAreStreamed(t *testing.T) {
	size := int64(256 << 20)
	if s := os.Getenv("UPSTREAM_UPLOAD_MIB"); s != "" {
		if _, err := fmt.Sscan(s, &size); err != nil {
			t.Fatal(err)
		}
		size <<= 20
	} else if testing.Short() {
		size = 32 << 20
	}
	for _, test := range []struct {
		out   string
		sized bool
	}{{"http", true}, {"http", false}, {"h2c", true}} {
		t.Run(fmt.Sprint(test.out, " sized ", test.sized), func(t *testing.T) {
			f := newFront(t, frontOptions{cfg: serve(t, test.out, counting)})
			var before, m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			var most uint64
			pieces := 0
			body := &zeros{n: size, each: func(int64) {
				if pieces++; pieces%512 == 0 {
					runtime.ReadMemStats(&m)
					most = max(most, m.HeapAlloc)
				}
			}}
			r, err := http.NewRequest("PUT", f.URL+"/big.iso", body)
			if err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf("%d <nil> -1 [chunked]", size)
			if test.sized {
				r.ContentLength = size
				want = fmt.Sprintf("%d <nil> %d []", size, size)
			}
			res, err := f.client(t).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if string(got) != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if most > before.HeapAlloc && most-before.HeapAlloc > 10<<20 {
				t.Errorf("the heap grew by %d KiB", (most-before.HeapAlloc)>>10)
			}
		})
	}
}

func TestBodiesKeepTheirFraming(t *testing.T) {
	f := newFront(t, frontOptions{cfg: serve(t, "http", counting)})
	c := f.dial(t)
	long := strings.Repeat("x", 100<<10)
	for _, test := range []struct{ request, want string }{
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "5 <nil> 5 []"},
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "0 <nil> 0 []"},
		{"POST / HTTP/1.1\r\nHost: a\r\n\r\n", "0 <nil> 0 []"},
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 102400\r\n\r\n" + long, "102400 <nil> 102400 []"},
		{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", "6 <nil> -1 [chunked]"},
		{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "0 <nil> -1 [chunked]"},
		{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n19000\r\n" + long + "\r\n0\r\n\r\n", "102400 <nil> -1 [chunked]"},
		{"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", "2 <nil> 2 []"},
		{"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", "0 <nil> 0 []"},
	} {
		c.send(t, test.request)
		if _, got := c.answer(t, "POST"); got != test.want {
			t.Errorf("%.90q: %s, want %s", test.request, got, test.want)
		}
	}
}

func TestBodyIsSentOnPieceByPiece(t *testing.T) {
	eachWay(t, func(w http.ResponseWriter, r *http.Request) {
		// An echo, as bidirectional streaming is.
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		rc.Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			w.Write(buf[:n])
			rc.Flush()
			if err != nil {
				return
			}
		}
	}, frontOptions{}, func(t *testing.T, f *front) {
		pr, pw := io.Pipe()
		defer pw.Close()
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, "POST", f.URL, pr)
		if err != nil {
			t.Fatal(err)
		}
		res, err := f.client(t).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		for _, word := range []string{"one", "two", "three"} {
			io.WriteString(pw, word)
			got := make([]byte, len(word))
			if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != word {
				t.Fatalf("%q, %v", got, err)
			}
		}
		pw.Close()
		if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
			t.Errorf("%q, %v", rest, err)
		}
		if o := f.outcome(t); o.err != nil || o.Bytes != 11 {
			t.Errorf("%+v", o)
		}
	})
}

func TestEarlyAnswerEndsTheUpload(t *testing.T) {
	for _, out := range []string{"http", "h2c"} {
		t.Run(out, func(t *testing.T) {
			f := newFront(t, frontOptions{cfg: serve(t, out, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Connection", "close")
				http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			})})
			for name, head := range map[string]string{
				"sized":       "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n",
				"sized small": "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n",
				"chunked":     "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n",
			} {
				c := f.dial(t)
				c.send(t, head+strings.Repeat("x", 20<<10)) // and then nothing more
				res, body := c.answer(t, "POST")
				if res.StatusCode != 413 || body != "too large\n" {
					t.Errorf("%s: %d %q", name, res.StatusCode, body)
				}
				if !res.Close {
					t.Errorf("%s: the connection stays open in the middle of a body", name)
				}
				// The rest of the body must not be taken for a request.
				io.WriteString(c, "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
				if rest, _ := io.ReadAll(c.r); len(rest) > 0 {
					t.Errorf("%s: answered what is not a request: %q", name, rest)
				}
				if o := f.outcome(t); o.err != nil {
					t.Errorf("%s: %+v", name, o)
				}
			}
		})
	}
}

func TestEarlyAnswerDoesNotEndAnUploadThatGoesOn(t *testing.T) {
	// The answer's body lasts until the upload is over.
	f := newFront(t, frontOptions{cfg: serve(t, "http", func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		rc.Flush()
		counting(w, r)
	})})
	c := f.dial(t)
	c.send(t, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.send(t, strings.Repeat("x", 100000))
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "100000 <nil> 100000 []" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestExpectContinueIsTheOriginsToAnswer(t *testing.T) {
	// net/http's HTTP/2 server hides the expectation, so HTTP/1.1 only.
	for _, out := range waysOut {
		t.Run(out, func(t *testing.T) {
			f := newFront(t, frontOptions{cfg: serve(t, out, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/refuse":
					w.WriteHeader(http.StatusUnauthorized)
				default:
					counting(w, r)
				}
			})})
			client := f.client(t)
			for _, test := range []struct {
				path   string
				status int
				length int64
				sent   bool
			}{{"/refuse", 401, 100, false}, {"/take", 200, 100, true}, {"/take", 200, -1, true}, {"/refuse", 401, 100000, false}} {
				var sent atomic.Bool
				var got100 atomic.Bool
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { got100.Store(true) }})
				r, err := http.NewRequestWithContext(ctx, "PUT", f.URL+test.path, io.NopCloser(&zeros{n: max(test.length, 50), each: func(int64) { sent.Store(true) }}))
				if err != nil {
					t.Fatal(err)
				}
				r.ContentLength = test.length
				r.Header.Set("Expect", "100-continue")
				res, err := client.Do(r)
				if err != nil {
					t.Fatalf("%+v: %v", test, err)
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if res.StatusCode != test.status || sent.Load() != test.sent || got100.Load() != test.sent {
					t.Errorf("%+v: status %d, body sent %v, 100 received %v", test, res.StatusCode, sent.Load(), got100.Load())
				}
			}
		})
	}
}

func TestExpectContinueRefusedEndsTheConnection(t *testing.T) {
	f := newFront(t, frontOptions{cfg: answering(t, "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n", false)})
	for _, n := range []string{"10", "100000000"} {
		c := f.dial(t)
		c.send(t, "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: "+n+"\r\n\r\n")
		res, _ := c.answer(t, "PUT")
		if res.StatusCode != 417 || !res.Close {
			t.Errorf("status %d, close %v", res.StatusCode, res.Close)
		}
		if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
			t.Errorf("then %q, %v", rest, err)
		}
	}
}

func TestExpectContinueDoesNotWaitForAnOriginThatIgnoresIt(t *testing.T) {
	cfg := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		head, _ := readHeader(r)
		body := make([]byte, 5)
		io.ReadFull(r, body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n%5.5v%s", strings.Contains(head, "Expect: 100-continue\r\n"), body)
	})
	cfg.ContinueTimeout = 10 * time.Millisecond
	f := newFront(t, frontOptions{cfg: cfg})
	c := f.dial(t)
	c.send(t, "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	res, err := http.ReadResponse(c.r, nil)
	if err != nil || res.StatusCode != 100 {
		t.Fatalf("%v %v", res, err)
	}
	c.send(t, "hello")
	if res, body := c.answer(t, "PUT"); body != " truehello" || res.StatusCode != 200 {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}

func TestInterimAnswersAreRelayed(t *testing.T) {
	eachWay(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.WriteHeader(http.StatusProcessing)
		w.Header().Set("Final", "yes")
		io.WriteString(w, "ok")
	}, frontOptions{wrap: func(w http.ResponseWriter) http.ResponseWriter {
		w.Header().Set("Edge", "kept")
		return w
	}}, func(t *testing.T, f *front) {
		var mu sync.Mutex
		var got []string
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, fmt.Sprint(code, " ", h.Get("Link"), h.Get("Final"), h.Get("Edge")))
			return nil
		}})
		res, err := f.client(t).Do(get(t, ctx, f.URL))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		mu.Lock()
		defer mu.Unlock()
		if d := cmp.Diff([]string{"103 </style.css>; rel=preload", "102 "}, got); d != "" {
			t.Error(d)
		}
		if res.Header.Get("Final") != "yes" || res.Header.Get("Edge") != "kept" || res.Header.Get("Link") != "" {
			t.Errorf("final header %v", res.Header)
		}
	})
}

func TestInterimAnswersAreKeptFromHTTP10(t *testing.T) {
	f := newFront(t, frontOptions{cfg: answering(t, "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false)})
	if res, body := f.ask(t, "GET / HTTP/1.0\r\n\r\n"); res.StatusCode != 200 || body != "ok" {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}

func TestTrailersPassInBothDirections(t *testing.T) {
	eachWay(t, func(w http.ResponseWriter, r *http.Request) {
		// As gRPC does.
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		w.Header().Set("Te-Seen", r.Header.Get("Te"))
		b, _ := io.ReadAll(r.Body)
		w.Write(b)
		w.Header().Set("Grpc-Status", "0")
		w.Header().Set("Grpc-Message", r.Trailer.Get("X-Checksum")+r.Trailer.Get("Cookie"))
		w.Header().Set(http.TrailerPrefix+"X-Unannounced", "u")
	}, frontOptions{}, func(t *testing.T, f *front) {
		client := f.client(t)
		for _, size := range []int{0, 10, 100000} {
			r, err := http.NewRequest("POST", f.URL+"/svc/Method", io.NopCloser(bytes.NewReader(make([]byte, size))))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Te", "trailers")
			r.Trailer = http.Header{"X-Checksum": {"abc"}, "Cookie": {"stolen"}}
			res, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || len(b) != size {
				t.Fatalf("%d bytes, %v", len(b), err)
			}
			want := http.Header{"Grpc-Status": {"0"}, "Grpc-Message": {"abc"}, "X-Unannounced": {"u"}}
			if d := cmp.Diff(want, res.Trailer); d != "" {
				t.Errorf("size %d: %s", size, d)
			}
			if te := res.Header.Get("Te-Seen"); te != "trailers" {
				t.Errorf("the origin saw TE: %q", te)
			}
		}
	})
}

func TestClientThatLeavesEndsTheRequest(t *testing.T) {
	for _, out := range waysOut {
		for _, phase := range []string{"before the header", "in the body"} {
			t.Run(out+" "+phase, func(t *testing.T) {
				arrived, gone := make(chan struct{}, 1), make(chan struct{}, 1)
				f := newFront(t, frontOptions{cfg: serve(t, out, func(w http.ResponseWriter, r *http.Request) {
					if phase == "in the body" {
						http.NewResponseController(w).Flush()
					}
					arrived <- struct{}{}
					<-r.Context().Done()
					gone <- struct{}{}
				})})
				c := f.dial(t)
				c.send(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				receive(t, arrived, "the request")
				if phase == "in the body" {
					if _, err := http.ReadResponse(c.r, nil); err != nil {
						t.Fatal(err)
					}
				}
				c.Close()
				receive(t, gone, "the origin to be told")
				if o := f.outcome(t); o.Failure != FailureClientGone || !errors.Is(o.err, ErrClientGone) || o.Started != (phase == "in the body") {
					t.Errorf("%+v", o)
				}
			})
		}
	}
}

func TestClientThatLeavesAnUploadIsNotTakenForItsEnd(t *testing.T) {
	for _, out := range []string{"http", "h2c"} {
		for name, head := range map[string]string{
			"sized":     "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhello",
			"short":     "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello",
			"chunked":   "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
			"malformed": "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
		} {
			t.Run(out+" "+name, func(t *testing.T) {
				whole := make(chan string, 1)
				f := newFront(t, frontOptions{cfg: serve(t, out, func(w http.ResponseWriter, r *http.Request) {
					if b, err := io.ReadAll(r.Body); err == nil {
						whole <- string(b)
					}
				})})
				c := f.dial(t)
				c.send(t, head)
				c.Close()
				o := f.outcome(t)
				if want := map[bool]Failure{true: FailureBody, false: FailureClientGone}[name == "malformed"]; out == "http" && o.Failure != want && o.Failure != FailureClientGone || o.err == nil {
					t.Errorf("%+v", o)
				}
				f.Server.Close()
				f.up.Close()
				select {
				case b := <-whole:
					t.Errorf("the origin took %q for the whole body", b)
				default:
				}
			})
		}
	}
}

func TestMalformedBodyIsTheClientsFault(t *testing.T) {
	for _, out := range []string{"http", "h2c"} {
		t.Run(out, func(t *testing.T) {
			f := newFront(t, frontOptions{cfg: serve(t, out, counting)})
			res, _ := f.ask(t, "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\nx\r\n")
			if o := f.outcome(t); res.StatusCode != 400 || o.Failure != FailureBody {
				t.Errorf("status %d, %+v", res.StatusCode, o)
			}
		})
	}
}

// An edge may limit a body and give each read a deadline of its own.
func TestEarlyAnswerWithABodyThatSetsDeadlines(t *testing.T) {
	f := newFront(t, frontOptions{
		cfg: answering(t, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", false),
		body: func(w http.ResponseWriter, r *http.Request) io.ReadCloser {
			return &deadlineBody{http.MaxBytesReader(w, r.Body, 1<<20), http.NewResponseController(w)}
		},
	})
	c := f.dial(t)
	c.send(t, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhello")
	if res, _ := c.answer(t, "PUT"); res.StatusCode != 413 || !res.Close {
		t.Errorf("status %d, close %v", res.StatusCode, res.Close)
	}
	if o := f.outcome(t); o.err != nil {
		t.Errorf("%+v", o)
	}
	// Too much of a body of unknown length.
	c = f.dial(t)
	big := strings.Repeat("x", 1<<20)
	go io.WriteString(c, "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n"+big+"\r\n100000\r\n"+big+"\r\n0\r\n\r\n")
	var tooLarge *http.MaxBytesError
	if o := f.outcome(t); o.err != nil && !errors.As(o.err, &tooLarge) {
		t.Errorf("%+v", o)
	}
}

type deadlineBody struct {
	io.ReadCloser
	rc *http.ResponseController
}

func (b *deadlineBody) Read(p []byte) (int, error) {
	b.rc.SetReadDeadline(time.Now().Add(within))
	return b.ReadCloser.Read(p)
}

func TestChunksAreFramedInPlace(t *testing.T) {
	for _, n := range []int{0, 1, 9, 15, 16, 255, 4096, largeSize - 8} {
		buf := make([]byte, largeSize)
		for i := range buf {
			buf[i] = 'x'
		}
		got := appendChunk(buf, 6, n)
		want := ""
		if n > 0 {
			want = fmt.Sprintf("%x\r\n%s\r\n", n, strings.Repeat("x", n))
		}
		if string(got) != want {
			t.Errorf("%d: %.20q", n, got)
		}
		if n > 0 && !slices.Equal(buf[6:6+n], bytes.Repeat([]byte("x"), n)) {
			t.Errorf("%d: the data moved", n)
		}
	}
}
