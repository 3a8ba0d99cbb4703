// Command gateway measures what cloud-proxy adds to a call of a language model, against calling the provider itself and against Debian's nginx in between.
// The provider is a program that answers at once; cloud-proxy is the real program, with a key of a caller and the access log off. All over loopback.
//
//	go run ./bench/gateway [-rounds 5] [-seconds 3]
//
// Rounds are interleaved, so that a machine that slows down slows all alike; figures are medians over the rounds, with the spread.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/quickthorn/quickthorn/bench/process"
	"github.com/quickthorn/quickthorn/internal/testprogram"
)

const (
	callerKey   = "qt-bench-0123456789abcdef"
	providerKey = "sk-bench-0123456789abcdef"
	perSecond   = 500 // at the fixed rate
	crowd       = 64  // connections, for the throughput
	held        = 1000
)

func main() {
	rounds := flag.Int("rounds", 5, "rounds, each of which measures every contender once")
	seconds := flag.Int("seconds", 3, "length of one measurement")
	serve := flag.String("serve", "", "internal: be the provider here")
	flag.Parse()
	var err error
	if *serve != "" { // ended by SIGTERM, so it must not be caught
		err = http.ListenAndServe(*serve, http.HandlerFunc(provider))
	} else {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = run(ctx, *rounds, time.Duration(*seconds)*time.Second)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const (
	call   = `{"model":"gpt-5-mini","messages":[{"role":"system","content":"You judge requests."},{"role":"user","content":"Is this a crawler?"}]}`
	answer = `{"id":"chatcmpl-1","object":"chat.completion","created":1790000000,"model":"gpt-5-mini","choices":[{"index":0,"message":{"role":"assistant","content":"It is one, as far as its pace tells."},"finish_reason":"stop"}],"usage":{"prompt_tokens":21,"completion_tokens":9,"total_tokens":30}}`
	piece  = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1790000000,"model":"gpt-5-mini","choices":[{"index":0,"delta":{"content":"It is"},"finish_reason":null}]}` + "\n\n"
)

// provider answers at once; a stream has one piece, and then waits for its caller to go.
func provider(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return
	}
	if bytes.Contains(body, []byte(`"stream":true`)) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, piece) // an error means that the client is gone
		if http.NewResponseController(w).Flush() == nil {
			<-q.Context().Done()
		}
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, answer)
}

type contender struct {
	name, url, key string
	pid            int
	figures        map[string][]float64
}

// The measurements, in the order of the table.
var measures = []string{"one p50 µs", "one p99 µs", "500/s p50 µs", "500/s p99 µs", "64 conns calls/s", "first piece p50 µs"}

func run(ctx context.Context, rounds int, length time.Duration) (err error) {
	dir, err := os.MkdirTemp("", "bench-gateway-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin, err := testprogram.Build(ctx, ".", dir)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	g := &process.Group{Dir: dir}
	defer g.End()
	at, err := process.FreeAddresses(4)
	if err != nil {
		return err
	}
	direct := &contender{name: "the provider itself", url: "http://" + at[0], key: providerKey}
	if direct.pid, _, err = g.Start(self, "-serve", at[0]); err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(callerKey))
	config := filepath.Join(dir, "quickthorn.yaml")
	text := fmt.Sprintf(`
cloudProxy:
  listen: %q
  providers: [{name: bench, kind: compatible, url: "http://%s/v1", key: %s, maxInFlight: 4096}]
gateway:
  accessLog: false
  maxInFlight: 4096
  keys: [{name: bench, hash: "sha256:%s"}]
`, at[1], at[0], providerKey, hex.EncodeToString(sum[:]))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	ours := &contender{name: "cloud-proxy", url: "http://" + at[1], key: callerKey}
	if ours.pid, _, err = g.Start(bin, "cloud-proxy", "--config", config, "--data", filepath.Join(dir, "data"), "--set", "private.listen="+at[2]); err != nil {
		return err
	}
	all := []*contender{direct, ours}
	if nginx, err := exec.LookPath("nginx"); err == nil {
		conf := filepath.Join(dir, "nginx.conf")
		if err := os.WriteFile(conf, []byte(fmt.Sprintf(`
daemon off; pid %[1]s/pid; error_log stderr warn; worker_processes 1;
events { worker_connections 8192; }
http { access_log off; keepalive_requests 1000000000; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
upstream u { server %[2]s; keepalive 1024; }
server { listen %[3]s; location / { proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; } } }
`, dir, at[0], at[3])), 0o644); err != nil {
			return err
		}
		peer := &contender{name: "nginx, which only passes on", url: "http://" + at[3], key: providerKey}
		if peer.pid, _, err = g.Start(nginx, "-c", conf, "-p", dir, "-e", "stderr"); err != nil {
			return err
		}
		all = append(all, peer)
	}
	for _, c := range all {
		c.figures = map[string][]float64{}
		if err := c.await(ctx); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	for range rounds {
		for _, c := range all {
			if err := c.measure(ctx, length); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	fmt.Printf("%-28s", "")
	for _, m := range measures {
		fmt.Printf("%26s", m)
	}
	fmt.Println()
	for _, c := range all {
		fmt.Printf("%-28s", c.name)
		for _, m := range measures {
			f := c.figures[m]
			slices.Sort(f)
			fmt.Printf("%26s", fmt.Sprintf("%.0f (%.0f–%.0f)", f[len(f)/2], f[0], f[len(f)-1]))
		}
		fmt.Println()
	}
	for _, m := range measures {
		a, b := direct.figures[m], ours.figures[m]
		fmt.Printf("cloud-proxy, %s: %+.0f, × %.2f\n", m, b[len(b)/2]-a[len(a)/2], b[len(b)/2]/a[len(a)/2])
	}
	return ours.hold(ctx)
}

func (c *contender) client(connections int) *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections}}
}

func (c *contender) request(ctx context.Context, body string) (*http.Request, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Authorization", "Bearer "+c.key)
	return q, nil
}

func (c *contender) once(ctx context.Context, h *http.Client) (time.Duration, error) {
	q, err := c.request(ctx, call)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	resp, err := h.Do(q)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK || n != int64(len(answer)) {
		return 0, fmt.Errorf("answers %d with %d bytes", resp.StatusCode, n)
	}
	return time.Since(began), nil
}

func (c *contender) await(ctx context.Context) error {
	h := c.client(1)
	defer h.CloseIdleConnections()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, err = c.once(ctx, h); err == nil {
			return nil
		}
	}
	return err
}

func (c *contender) note(what string, values []time.Duration, share float64) {
	slices.Sort(values)
	v := values[min(int(math.Floor(share*float64(len(values)))), len(values)-1)]
	c.figures[what] = append(c.figures[what], float64(v.Nanoseconds())/1000)
}

func (c *contender) measure(ctx context.Context, length time.Duration) error {
	one := c.client(1)
	defer one.CloseIdleConnections()
	var took []time.Duration
	for end := time.Now().Add(length); time.Now().Before(end); {
		d, err := c.once(ctx, one)
		if err != nil {
			return err
		}
		took = append(took, d)
	}
	c.note(measures[0], took, 0.5)
	c.note(measures[1], took, 0.99)

	many := c.client(crowd)
	defer many.CloseIdleConnections()
	took, err := c.paced(ctx, many, length)
	if err != nil {
		return err
	}
	c.note(measures[2], took, 0.5)
	c.note(measures[3], took, 0.99)

	var mu sync.Mutex
	var all sync.WaitGroup
	calls, failed := 0, error(nil)
	end := time.Now().Add(length)
	for range crowd {
		all.Go(func() {
			n := 0
			var err error
			for ; time.Now().Before(end) && err == nil; n++ {
				_, err = c.once(ctx, many)
			}
			mu.Lock()
			defer mu.Unlock()
			calls, failed = calls+n, errors.Join(failed, err)
		})
	}
	all.Wait()
	if failed != nil {
		return failed
	}
	c.figures[measures[4]] = append(c.figures[measures[4]], float64(calls)/length.Seconds())

	took = nil
	for range 200 {
		d, stop, err := c.stream(ctx, one)
		if err != nil {
			return err
		}
		stop()
		took = append(took, d)
	}
	c.note(measures[5], took, 0.5)
	return nil
}

// paced makes calls at a fixed rate, whether or not those before are answered; a call's time begins when it is due.
func (c *contender) paced(ctx context.Context, h *http.Client, length time.Duration) (took []time.Duration, err error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	began := time.Now()
	for i := 0; ; i++ {
		due := began.Add(time.Duration(i) * time.Second / perSecond)
		if due.Sub(began) > length {
			break
		}
		time.Sleep(time.Until(due))
		all.Go(func() {
			d, e := c.once(ctx, h)
			mu.Lock()
			defer mu.Unlock()
			took, err = append(took, d), errors.Join(err, e)
		})
	}
	all.Wait()
	return took, err
}

// stream opens a stream and returns how long its first piece took.
func (c *contender) stream(ctx context.Context, h *http.Client) (time.Duration, func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	q, err := c.request(ctx, strings.Replace(call, "{", `{"stream":true,`, 1))
	if err != nil {
		cancel()
		return 0, nil, err
	}
	began := time.Now()
	resp, err := h.Do(q)
	if err != nil {
		cancel()
		return 0, nil, err
	}
	stop := func() {
		cancel()
		_ = resp.Body.Close() // it was cut off
	}
	line, err := bufio.NewReaderSize(resp.Body, 512).ReadString('\n')
	if err != nil || !strings.Contains(line, "It is") {
		stop()
		return 0, nil, fmt.Errorf("the stream begins with %q, %d, %v", line, resp.StatusCode, err)
	}
	return time.Since(began), stop, nil
}

// hold opens many streams at once and says what memory the gateway takes.
func (c *contender) hold(ctx context.Context) error {
	before, err := process.Resident(c.pid)
	if err != nil {
		return err
	}
	h := c.client(held)
	var stops []func()
	for range held {
		_, stop, err := c.stream(ctx, h)
		if err != nil {
			return err
		}
		stops = append(stops, stop)
	}
	time.Sleep(2 * time.Second)
	after, err := process.Resident(c.pid)
	for _, stop := range stops {
		stop()
	}
	h.CloseIdleConnections()
	fmt.Printf("cloud-proxy, resident: %d MiB before, %d MiB with %d streams open\n", before>>20, after>>20, held)
	return err
}
