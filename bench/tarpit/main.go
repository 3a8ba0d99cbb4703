// Command tarpit measures what the tarpit costs us: pages of the maze against a static page, and connections that are held against other
// programs that hold some. Everything runs over loopback; the tarpit is the real program, as the service of that name.
//
//	go run ./bench/tarpit [-rounds 5] [-seconds 3]             pages, driven by wrk, against a Go handler and Debian's nginx with 10 KiB
//	go run ./bench/tarpit -streams 20000 [-hold 60s]           held connections, against nginx with limit_rate and Debian's endlessh
//	go run ./bench/tarpit -soak 10m                            resident memory under pages, archives and streams that come and go
//
// Rounds are interleaved, so that a machine that slows down slows all alike; figures are medians over the rounds.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/quickthorn/quickthorn/bench/process"
	"github.com/quickthorn/quickthorn/internal/testprogram"
)

// pageSize is how large the static page is, in bytes.
const pageSize = 10 << 10

func main() {
	rounds := flag.Int("rounds", 5, "rounds, each of which measures every contender once")
	seconds := flag.Int("seconds", 3, "length of one measurement")
	streams := flag.Int("streams", 0, "hold so many connections instead")
	hold := flag.Duration("hold", time.Minute, "with -streams: for so long")
	soak := flag.Duration("soak", 0, "watch memory for so long instead")
	serve := flag.String("serve", "", "internal: serve the static page here")
	flag.Parse()
	var err error
	if *serve != "" { // ended by SIGTERM, so it must not be caught
		page := bytes.Repeat([]byte("A page of ten kibibytes, all alike.\n"), pageSize/36+1)[:pageSize]
		err = http.ListenAndServe(*serve, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write(page) // an error means that the client is gone
		}))
	} else {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = run(ctx, *rounds, *seconds, *streams, *hold, *soak)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/tarpit:", err)
		os.Exit(1)
	}
}

// descriptors sees to it that this process, and those that it starts, can have so many.
func descriptors(n uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Cur >= n {
		return nil
	}
	limit.Cur, limit.Max = n, max(n, limit.Max)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("%d descriptors: %w", n, err)
	}
	return nil
}

// bench has the programs that are measured, and ends them.
type bench struct {
	process.Group
	bin string
}

func run(ctx context.Context, rounds, seconds, streams int, hold, soak time.Duration) (err error) {
	dir, err := os.MkdirTemp("", "bench-tarpit-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // nginx's worker is another user
		return err
	}
	if streams > 0 {
		if err := descriptors(uint64(streams) + 200); err != nil {
			return err
		}
	}
	b := &bench{Group: process.Group{Dir: dir}}
	if b.bin, err = testprogram.Build(ctx, ".", dir); err != nil {
		return err
	}
	defer b.End()
	switch {
	case streams > 0:
		return b.streams(ctx, streams, hold)
	case soak > 0:
		return b.soak(ctx, soak)
	}
	return b.pages(ctx, rounds, seconds)
}

// start starts a program and waits until it listens.
func (b *bench) start(address, name string, args ...string) (int, error) {
	pid, log, err := b.Start(name, args...)
	if err != nil {
		return 0, err
	}
	for range 200 {
		if conn, err := net.Dial("tcp", address); err == nil {
			return pid, conn.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	said, _ := os.ReadFile(log)
	return 0, fmt.Errorf("%s does not listen on %s:\n%s", name, address, said)
}

func free() string {
	list, err := process.FreeAddresses(1)
	if err != nil {
		panic(err) // loopback is there
	}
	return list[0]
}

// tarpit starts the service without the bounds that would end a measurement.
func (b *bench) tarpit(sets ...string) (address string, pid int, err error) {
	address = free()
	args := []string{"tarpit", "--data", filepath.Join(b.Dir, "data"+strconv.Itoa(b.Started()))}
	for _, s := range append([]string{
		"tarpit.listen=" + address, "private.listen=" + free(), "tarpit.fronts=127.0.0.0/8", "tarpit.minDelay=0s", "tarpit.maxDelay=0s", "tarpit.bandwidth=0",
		"tarpit.daily=0", "tarpit.hops=0", "tarpit.cpu=64", "tarpit.archiveRate=0", "tarpit.connections=100000", "log.level=warn",
	}, sets...) {
		args = append(args, "--set", s)
	}
	pid, err = b.start(address, b.bin, args...)
	if err == nil { // the text is made ready for the first client
		_, err = get(address, "/docs/first")
	}
	return address, pid, err
}

// nginx starts Debian's nginx with a server block.
func (b *bench) nginx(address, server string) (int, error) {
	path := filepath.Join(b.Dir, fmt.Sprintf("nginx%d.conf", b.Started()))
	if err := os.WriteFile(path, []byte(fmt.Sprintf(`
daemon off; master_process off; pid %[1]s.pid; error_log stderr error; 
events { worker_connections 65536; }
http { access_log off; keepalive_requests 1000000000; client_body_temp_path %[2]s/b; proxy_temp_path %[2]s/p; fastcgi_temp_path %[2]s/f; uwsgi_temp_path %[2]s/u; scgi_temp_path %[2]s/s;
server { listen %[3]s backlog=4096; root %[2]s; %[4]s } }
`, path, b.Dir, address, server)), 0o644); err != nil {
		return 0, err
	}
	return b.start(address, "nginx", "-c", path, "-e", "stderr")
}

func get(address, path string) (body string, err error) {
	client := &http.Client{Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	res, err := client.Get("http://" + address + path)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s%s: %s", address, path, res.Status)
	}
	return string(all), err
}

// script asks for another page each time.
const script = `
local n = (os.time() * 7919) % 0x7fffff
function request()
  n = n + 1
  return wrk.format("GET", "/docs/page-" .. n .. ".html")
end
`

type contender struct {
	name          string
	address       string
	pid           int
	rate, cpu, kb []float64 // requests a second, µs of a processor for one, KiB each
}

var wrkRate = regexp.MustCompile(`(?s)(\d+) requests in ([\d.]+)(ms|s|m), .*Requests/sec:\s+([\d.]+)\s+Transfer/sec:\s+([\d.]+)(KB|MB|GB)`)

func (b *bench) pages(ctx context.Context, rounds, seconds int) error {
	lua := filepath.Join(b.Dir, "pages.lua")
	if err := os.WriteFile(lua, []byte(script), 0o644); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	static, nginx, maze := contender{name: "Go handler, 10 KiB", address: free()}, contender{name: "nginx, 10 KiB", address: free()}, contender{name: "maze"}
	if static.pid, err = b.start(static.address, self, "-serve", static.address); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.Dir, "page.html"), bytes.Repeat([]byte("x"), pageSize), 0o644); err != nil {
		return err
	}
	if nginx.pid, err = b.nginx(nginx.address, "location / { rewrite ^ /page.html break; }"); err != nil {
		return err
	}
	if maze.address, maze.pid, err = b.tarpit("tarpit.streams=0", "tarpit.archives=0"); err != nil {
		return err
	}
	all := []*contender{&static, &nginx, &maze}
	for range rounds {
		for _, c := range all {
			before, err := process.CPUTime(c.pid, false)
			if err != nil {
				return err
			}
			out, err := exec.CommandContext(ctx, "wrk", "-t1", "-c32", "-d"+strconv.Itoa(seconds)+"s", "-s", lua, "http://"+c.address).CombinedOutput()
			if err != nil || bytes.Contains(out, []byte("Non-2xx")) {
				return fmt.Errorf("wrk: %w\n%s", err, out)
			}
			m := wrkRate.FindSubmatch(out)
			if m == nil {
				return fmt.Errorf("wrk said\n%s", out)
			}
			after, err := process.CPUTime(c.pid, false)
			if err != nil {
				return err
			}
			n, _ := strconv.ParseFloat(string(m[1]), 64)
			rate, _ := strconv.ParseFloat(string(m[4]), 64)
			transfer, _ := strconv.ParseFloat(string(m[5]), 64)
			transfer *= map[string]float64{"KB": 1, "MB": 1 << 10, "GB": 1 << 20}[string(m[6])]
			c.rate, c.cpu, c.kb = append(c.rate, rate), append(c.cpu, (after-before)/n*1e6), append(c.kb, transfer/rate)
		}
	}
	fmt.Printf("%-20s %12s %22s %8s %24s\n", "", "requests/s", "µs processor/request", "KiB", "requests of the handler's")
	for _, c := range all {
		ratios := make([]float64, len(c.rate))
		for i := range ratios {
			ratios[i] = c.rate[i] / static.rate[i]
		}
		fmt.Printf("%-20s %12.0f %22.1f %8.1f %24s\n", c.name, median(c.rate), median(c.cpu), median(c.kb), spread(ratios))
	}
	bytesRatio := make([]float64, rounds)
	for i := range bytesRatio {
		bytesRatio[i] = maze.rate[i] * maze.kb[i] / (static.rate[i] * static.kb[i])
	}
	fmt.Printf("bytes of the maze, of the handler's: %s\n", spread(bytesRatio))
	return nil
}

// held is a program that holds connections.
type held struct {
	name, address string
	pid           int
	request       string
}

var link = regexp.MustCompile(`href="(/[^"#?]+)"`)

// streamPath finds a page that never ends.
func streamPath(address string) (string, error) {
	page, err := get(address, "/docs/")
	if err != nil {
		return "", err
	}
	for _, m := range link.FindAllStringSubmatch(page, -1) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+m[1], nil)
		if err != nil {
			cancel()
			return "", err
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			cancel()
			return "", err
		}
		endless := res.ContentLength < 0
		res.Body.Close()
		cancel()
		if endless {
			return m[1], nil
		}
	}
	return "", errors.New("no page that never ends is linked")
}

func (b *bench) streams(ctx context.Context, n int, hold time.Duration) error {
	var all []held
	address, pid, err := b.tarpit("tarpit.streams=1", "tarpit.archives=0", "tarpit.streamMax=1h")
	if err != nil {
		return err
	}
	path, err := streamPath(address)
	if err != nil {
		return err
	}
	request := "GET " + path + " HTTP/1.1\r\nHost: site.test\r\nUser-Agent: bench\r\n\r\n"
	all = append(all, held{"quickthorn tarpit", address, pid, request})

	address = free()
	if err := os.WriteFile(filepath.Join(b.Dir, "large"), make([]byte, 1<<20), 0o644); err != nil {
		return err
	}
	if pid, err = b.nginx(address, "open_file_cache max=10; location / { rewrite ^ /large break; limit_rate 40; }"); err != nil {
		return err
	}
	all = append(all, held{"nginx, limit_rate 40", address, pid, strings.Replace(request, path, "/large", 1)})
	if _, err := exec.LookPath("endlessh"); err == nil {
		address = free()
		_, port, _ := net.SplitHostPort(address)
		conf := filepath.Join(b.Dir, "endlessh")
		if err := os.WriteFile(conf, fmt.Appendf(nil, "Port %s\nDelay 1000\nMaxLineLength 64\nMaxClients %d\nLogLevel 0\nBindFamily 4\n", port, 2*n), 0o644); err != nil {
			return err
		}
		if pid, err = b.start(address, "endlessh", "-f", conf); err != nil {
			return err
		}
		all = append(all, held{"endlessh, a line a second", address, pid, ""})
	} else {
		fmt.Println("endlessh is not installed")
	}
	fmt.Printf("%d connections each, held for %s\n%-28s %16s %20s %18s %12s\n", n, hold, "", "of one core", "KiB resident each", "bytes/s received", "lost")
	for i := range all {
		if err := measure(ctx, &all[i], n, hold); err != nil {
			return fmt.Errorf("%s: %w", all[i].name, err)
		}
	}
	return nil
}

// measure holds n connections and says what they cost.
func measure(ctx context.Context, h *held, n int, hold time.Duration) error {
	rest, err := process.Resident(h.pid)
	if err != nil {
		return err
	}
	conns := make([]net.Conn, 0, n)
	defer func() {
		for _, c := range conns {
			_ = c.Close() // that is how they end
		}
		time.Sleep(2 * time.Second)
	}()
	for i := range n {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%200))}, Timeout: 10 * time.Second}
		c, err := d.DialContext(ctx, "tcp", h.address)
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		conns = append(conns, c)
		if _, err := io.WriteString(c, h.request); err != nil {
			return err
		}
		if i%200 == 0 {
			time.Sleep(20 * time.Millisecond)
		}
	}
	time.Sleep(5 * time.Second)
	full, err := process.Resident(h.pid)
	if err != nil {
		return err
	}
	before, err := process.CPUTime(h.pid, false)
	if err != nil {
		return err
	}
	begin := time.Now()
	select {
	case <-time.After(hold):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := process.CPUTime(h.pid, false)
	if err != nil {
		return err
	}
	took := time.Since(begin)
	received, lost := 0, 0
	buf := make([]byte, 1<<20)
	for _, c := range conns {
		if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			return err
		}
		got, err := c.Read(buf)
		received += got
		var late net.Error
		if got == 0 || err != nil && !(errors.As(err, &late) && late.Timeout()) {
			lost++
		}
	}
	fmt.Printf("%-28s %15.1f%% %20.2f %18.1f %12d\n", h.name, (after-before)/took.Seconds()*100, float64(full-rest)/float64(n)/1024, float64(received)/float64(n)/(took.Seconds()+5), lost)
	return nil
}

// soak has clients come and go, and tells of the memory.
func (b *bench) soak(ctx context.Context, d time.Duration) error {
	address, pid, err := b.tarpit("tarpit.streams=4", "tarpit.archives=8")
	if err != nil {
		return err
	}
	path, err := streamPath(address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	var pages, streams, archives counter
	visit := func(path string, limit time.Duration, n *counter) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
		if err != nil {
			return
		}
		r.Header.Set("X-Forwarded-For", fmt.Sprintf("11.%d.%d.%d", rand.IntN(256), rand.IntN(256), rand.IntN(256)))
		if res, err := http.DefaultClient.Do(r); err == nil {
			_, _ = io.Copy(io.Discard, res.Body) // streams end by the limit
			res.Body.Close()
			n.add()
		}
	}
	loop := func(workers int, f func()) {
		for range workers {
			all.Go(func() {
				for ctx.Err() == nil {
					f()
				}
			})
		}
	}
	loop(2, func() { visit(fmt.Sprintf("/docs/page-%d.html", rand.Uint32()), time.Minute, &pages) })
	loop(200, func() { visit(path, time.Duration(1+rand.IntN(9))*time.Second, &streams) })
	loop(1, func() { visit(fmt.Sprintf("/files/set-%d.zip", rand.Uint32()), time.Minute, &archives) })
	fmt.Printf("%8s %12s %10s %10s %10s\n", "s", "MiB resident", "pages", "streams", "archives")
	begin := time.Now()
	for ctx.Err() == nil {
		rss, err := process.Resident(pid)
		if err != nil {
			return err
		}
		fmt.Printf("%8.0f %12.1f %10d %10d %10d\n", time.Since(begin).Seconds(), float64(rss)/(1<<20), pages.get(), streams.get(), archives.get())
		select {
		case <-time.After(d / 12):
		case <-ctx.Done():
		}
	}
	return nil
}

type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) add() { c.mu.Lock(); c.n++; c.mu.Unlock() }
func (c *counter) get() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func median(list []float64) float64 {
	s := slices.Sorted(slices.Values(list))
	return s[len(s)/2]
}

// spread is a median with the least and the largest.
func spread(list []float64) string {
	return fmt.Sprintf("%.2f (%.2f–%.2f)", median(list), slices.Min(list), slices.Max(list))
}
