//go:build unix

package upstream

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// origin answers every request on a connection with the same bytes. It costs as
// little as an origin can, so that what is measured is what stands in between.
func origin(tb testing.TB, answer []byte) (addr string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 8<<10)
				for n := 0; ; {
					m, err := c.Read(buf[n:])
					if err != nil {
						return
					}
					if n += m; bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
						if _, err := c.Write(answer); err != nil {
							return
						}
						n = 0
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}

func answerOf(n int) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nServer: nginx/1.28.0\r\nDate: Tue, 24 Nov 2026 10:00:00 GMT\r\nContent-Type: text/html; charset=utf-8\r\n"+
		"Content-Length: %d\r\nConnection: keep-alive\r\nLast-Modified: Mon, 23 Nov 2026 10:00:00 GMT\r\nETag: \"6560b2a0-400\"\r\nAccept-Ranges: bytes\r\n\r\n%s",
		n, strings.Repeat("x", n))
}

// browserRequest is a Chrome navigation.
const browserRequest = "GET /wiki/Main_Page?action=view HTTP/1.1\r\nHost: wiki.example.org\r\nConnection: keep-alive\r\n" +
	"sec-ch-ua: \"Chromium\";v=\"141\", \"Not?A_Brand\";v=\"8\"\r\nsec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r\n" +
	"Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n\r\n"

// tunedReverseProxy is net/http/httputil's proxy as a careful owner sets it up.
func tunedReverseProxy(addr string) http.Handler {
	target := &url.URL{Scheme: "http", Host: addr}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{
			MaxIdleConns: 4096, MaxIdleConnsPerHost: 1024, IdleConnTimeout: time.Minute, DisableCompression: true,
			ResponseHeaderTimeout: time.Minute,
		},
		BufferPool: bufferPool{},
		ErrorLog:   log.New(io.Discard, "", 0),
	}
}

type bufferPool struct{}

var benchBuffers = sync.Pool{New: func() any { return make([]byte, 32<<10) }}

func (bufferPool) Get() []byte { return benchBuffers.Get().([]byte) }

//lint:ignore SA6002 as every owner does it: the interface hands over slices
func (bufferPool) Put(b []byte) { benchBuffers.Put(b) }

// ourProxy is Forward as the edge uses it.
func ourProxy(tb testing.TB, addr string) http.Handler {
	u, err := New(Config{URL: "http://" + addr})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(u.Close)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := u.Forward(w, r, nil); err != nil {
			panic(http.ErrAbortHandler)
		}
	})
}

// load sends n requests over each of the connections and waits for the answers.
func load(tb testing.TB, conns []net.Conn, n, body int) {
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() {
			r := bufio.NewReaderSize(c, 8<<10)
			for range n {
				if _, err := io.WriteString(c, browserRequest); err != nil {
					tb.Error(err)
					return
				}
				for {
					line, err := r.ReadSlice('\n')
					if err != nil {
						tb.Error(err)
						return
					}
					if len(line) == 2 {
						break
					}
				}
				if _, err := r.Discard(body); err != nil {
					tb.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func dialAll(tb testing.TB, addr string, n int) []net.Conn {
	conns := make([]net.Conn, n)
	for i := range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { c.Close() })
		conns[i] = c
	}
	return conns
}

// cpu returns the processor time this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkVersusReverseProxy sends browsers' requests over 64 connections
// through Forward and through a tuned httputil.ReverseProxy in turns, and reports
// requests per second of each, and medians of the rounds' ratios (above 1 is in
// our favour). Client and origin are in the same process and count against both.
func BenchmarkVersusReverseProxy(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 256 << 10, 4 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			addr := origin(b, answerOf(size))
			const parallel = 64
			var conns [2][]net.Conn
			for i, h := range []http.Handler{ourProxy(b, addr), tunedReverseProxy(addr)} {
				s := httptest.NewServer(h)
				b.Cleanup(s.Close)
				conns[i] = dialAll(b, s.Listener.Addr().String(), parallel)
				load(b, conns[i], 2, size)
			}
			per := max(1, 50*1024/max(size, 1024)) // requests a connection, a round
			var wall, used [2]time.Duration
			var faster, cheaper []float64
			rounds := 0
			for b.Loop() {
				rounds++
				var w, c [2]time.Duration
				for k := range 2 {
					i := (k + rounds) % 2
					t0, c0 := time.Now(), cpu()
					load(b, conns[i], per, size)
					w[i], c[i] = time.Since(t0), cpu()-c0
					wall[i] += w[i]
					used[i] += c[i]
				}
				faster = append(faster, float64(w[1])/float64(w[0]))
				cheaper = append(cheaper, float64(c[1])/float64(c[0]))
			}
			n := float64(rounds * per * parallel)
			slices.Sort(faster)
			slices.Sort(cheaper)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(n/wall[0].Seconds(), "forward-req/s")
			b.ReportMetric(n/wall[1].Seconds(), "reverseproxy-req/s")
			b.ReportMetric(faster[len(faster)/2], "rate-ratio")
			b.ReportMetric(cheaper[len(cheaper)/2], "cpu-ratio")
		})
	}
}

// BenchmarkForward is one request at a time, without a server in front.
func BenchmarkForward(b *testing.B) {
	addr := origin(b, answerOf(1<<10))
	for name, h := range map[string]http.Handler{"forward": ourProxy(b, addr), "reverseproxy": tunedReverseProxy(addr)} {
		b.Run(name, func(b *testing.B) {
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(browserRequest)))
			if err != nil {
				b.Fatal(err)
			}
			ctx := b.Context()
			b.ReportAllocs()
			w := &sink{h: http.Header{}}
			for b.Loop() {
				clear(w.h)
				h.ServeHTTP(w, r.WithContext(ctx))
			}
		})
	}
}

func BenchmarkParseHead(b *testing.B) {
	block := string(answerOf(0))
	mem := make([]Field, 0, 16)
	b.ReportAllocs()
	b.SetBytes(int64(len(block)))
	for b.Loop() {
		if _, err := parseHead(block, mem); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendHead(b *testing.B) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(browserRequest)))
	if err != nil {
		b.Fatal(err)
	}
	o := &Options{Set: []Field{{"X-Forwarded-For", "203.0.113.7"}, {"X-Forwarded-Proto", "https"}, {"X-Forwarded-Host", "wiki.example.org"}}}
	buf := make([]byte, 0, 4<<10)
	b.ReportAllocs()
	for b.Loop() {
		var q outgoing
		if err := q.prepare(r, o, ""); err != nil {
			b.Fatal(err)
		}
		if _, err := q.appendHead(buf); err != nil {
			b.Fatal(err)
		}
	}
}
