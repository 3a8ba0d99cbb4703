// Command memory measures what a million distinct clients cost: resident memory of a fresh
// quickthorn, and after requests from that many addresses.
//
//	go run ./bench/memory [-clients 1000000]
//
// The clients are X-Forwarded-For addresses of one trusted proxy, sent over loopback.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/quickthorn/quickthorn/bench/process"
	"github.com/quickthorn/quickthorn/internal/testprogram"
	"golang.org/x/sync/errgroup"
)

func main() {
	clients := flag.Int("clients", 1_000_000, "distinct client addresses")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *clients); err != nil {
		fmt.Fprintln(os.Stderr, "bench/memory:", err)
		os.Exit(1)
	}
}

const page = "a page\n"

func run(ctx context.Context, clients int) error {
	dir, err := os.MkdirTemp("", "bench-memory-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin, err := testprogram.Build(ctx, ".", dir)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	site := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, page) })}
	go site.Serve(l)
	defer site.Close()
	public, private := filepath.Join(dir, "public.sock"), filepath.Join(dir, "private.sock")
	cmd := exec.Command(bin, "run", "--upstream", "http://"+l.Addr().String(), "--listen", "unix:"+public, "--data", filepath.Join(dir, "data"),
		"--set", "private.listen=unix:"+private, "--set", "edge.trustUnix=true", "--set", "policy.mode=enforce")
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() }()
	for i := 0; ; i++ {
		if c, err := net.Dial("unix", public); err == nil {
			c.Close()
			break
		}
		if i > 200 {
			return fmt.Errorf("quickthorn does not listen: %s", &said)
		}
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(2 * time.Second)
	fmt.Printf("idle: %.1f MiB\n", rss(cmd.Process.Pid))
	const connections = 16
	g, ctx := errgroup.WithContext(ctx)
	for c := range connections {
		g.Go(func() error {
			conn, err := net.Dial("unix", public)
			if err != nil {
				return err
			}
			defer conn.Close()
			in := bufio.NewReader(conn)
			for i := c; i < clients && ctx.Err() == nil; i += connections {
				a := netip.AddrFrom4([4]byte{byte(11 + i>>24), byte(i >> 16), byte(i >> 8), byte(i)})
				if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: site.example\r\nX-Forwarded-For: %s\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\n"+
					"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\n\r\n", a); err != nil {
					return err
				}
				res, err := http.ReadResponse(in, nil)
				if err != nil {
					return err
				}
				if _, err := io.Copy(io.Discard, res.Body); err != nil {
					return err
				}
				if res.StatusCode != 200 && res.StatusCode != 429 {
					return errors.New(res.Status)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	fmt.Printf("after %d clients: %.1f MiB\n", clients, rss(cmd.Process.Pid))
	return nil
}

// rss is a process's resident memory in MiB, 0 where there is no /proc.
func rss(pid int) float64 {
	n, _ := process.Resident(pid)
	return float64(n) / (1 << 20)
}
