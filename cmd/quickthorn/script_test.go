package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/llm/cloud"
	"github.com/quickthorn/quickthorn/internal/llm/router"
	"github.com/quickthorn/quickthorn/internal/proxy"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

// The scripts are stories of what an owner types, one file each. They run the program itself.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"quickthorn": main, "fetch": fetch,
		"proxy": func() {
			command.Main(command.Alone(func(env *command.Environment) *cobra.Command { return proxy.Command(env, nil) }))
		},
		"cloud-proxy": func() { command.Main(command.Alone(cloud.Command)) }, "prompt-router": func() { command.Main(command.Alone(router.Command)) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		// The race detector would make each program wait for a second at its end.
		Setup:         func(e *testscript.Env) error { e.Setenv("GORACE", "atexit_sleep_ms=0"); return nil },
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve-upstream": serveUpstream,
			"status":         status,
			"eventually":     eventually,
			"squat":          squat,
			"send":           send,
			"take":           take,
		},
	})
}

// take puts the first line of a file into a variable: take FILE NAME.
func take(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: take FILE NAME")
	}
	line, _, _ := strings.Cut(ts.ReadFile(args[0]), "\n")
	ts.Setenv(args[1], line)
}

// serve-upstream starts a site on an ephemeral port and puts its URL into $UPSTREAM. It
// answers with the request's path.
func serveUpstream(ts *testscript.TestScript, _ bool, _ []string) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprintf(w, "the site's %s\n", r.URL.Path)
	}))
	ts.Defer(s.Close)
	ts.Setenv("UPSTREAM", s.URL)
}

// squat listens on an ephemeral port, which it puts into $TAKEN.
func squat(ts *testscript.TestScript, _ bool, _ []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv("TAKEN", l.Addr().String())
}

// send SIGNAL sends the signal to the background program that was started last.
func send(ts *testscript.TestScript, _ bool, args []string) {
	running := ts.BackgroundCmds()
	ts.Check(running[len(running)-1].Process.Signal(map[string]os.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM}[args[0]]))
}

// status N program args… runs the program and wants it to end with the status N.
func status(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s ended with status %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// eventually PATTERN program args… runs the program until it succeeds and its output matches.
func eventually(ts *testscript.TestScript, _ bool, args []string) {
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for range 400 {
		if ts.Exec(args[1], args[2:]...) == nil && pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	ts.Fatalf("%s never printed %q", strings.Join(args[1:], " "), args[0])
}

// fetch is a program: fetch SOCKET PATH [USER-AGENT [ADDRESS]] asks for a page by a Unix socket
// and prints the status and the body. It waits for the socket to be there. ADDRESS goes into X-Forwarded-For.
func fetch() {
	socket, path := os.Args[1], os.Args[2]
	client := &http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			for {
				c, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
				if err == nil || ctx.Err() != nil {
					return c, err
				}
				time.Sleep(10 * time.Millisecond)
			}
		}},
	}
	r, err := http.NewRequest(http.MethodGet, "http://site.test"+path, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	r.Header.Set("User-Agent", "curl/8.5.0")
	r.Header.Set("Accept", "*/*")
	if len(os.Args) > 3 {
		r.Header.Set("User-Agent", os.Args[3])
	}
	if len(os.Args) > 4 {
		r.Header.Set("X-Forwarded-For", os.Args[4])
	}
	if token := os.Getenv("FETCH_TOKEN"); token != "" {
		r.Header.Set("Quickthorn-Token", token)
	}
	res, err := client.Do(r)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer res.Body.Close()
	fmt.Println(res.Status)
	if _, err := io.Copy(os.Stdout, res.Body); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
