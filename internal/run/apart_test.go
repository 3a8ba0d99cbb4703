package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/service"
	"github.com/quickthorn/quickthorn/internal/testlog"
	"github.com/quickthorn/quickthorn/internal/testserver"
)

const (
	testProxyKey    = "proxy-0123456789-0123"
	testOperatorKey = "operator-0123456789-0"
)

// apart is a service that runs by itself.
type apart struct {
	private string
	stop    func()
}

// startApart starts a service with a configuration.
func startApart(t *testing.T, open func(context.Context, service.Options) (runnable, error), sets ...string) *apart {
	t.Helper()
	address := testserver.FreeAddress(t)
	c, err := config.Load(config.LoadOptions{Sets: append([]string{"private.listen=" + address, "private.key=" + testOperatorKey}, sets...)})
	if err != nil {
		t.Fatal(err)
	}
	log := &testlog.Buffer{}
	p, err := open(t.Context(), service.Options{Config: c, Log: slog.New(slog.NewTextHandler(log, nil)), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stopped := false
	a := &apart{private: address, stop: func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%v\n%s", err, log)
		}
	}}
	t.Cleanup(a.stop)
	return a
}

type runnable interface {
	Run(ctx context.Context) error
}

func openTarpitService(ctx context.Context, o service.Options) (runnable, error) {
	return OpenTarpit(ctx, o)
}

// switched is the position of the tarpit's switch.
func (a *apart) switched(t *testing.T) (on bool, err error) {
	t.Helper()
	_, body, err := a.api(t, "GET", "/v1/tarpit", "")
	if err != nil {
		return false, err
	}
	var report struct{ On *bool }
	if err := json.Unmarshal(body, &report); err != nil || report.On == nil {
		return false, fmt.Errorf("%s, %w", body, err)
	}
	return *report.On, nil
}

func (a *apart) api(t *testing.T, method, path, body string) (int, []byte, error) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+a.private+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+testOperatorKey)
	r.Header.Set("Content-Type", "application/json")
	r.Close = true
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, b, err
}

func (a *apart) put(t *testing.T, path, body string, want int) {
	t.Helper()
	if code, out, err := a.api(t, "PUT", path, body); err != nil || code != want {
		t.Fatalf("PUT %s %s: %d %s, %v", path, body, code, bytes.TrimSpace(out), err)
	}
}

// Off at one tarpit is off at all of them, and over a restart.
func TestTheSwitchIsThatOfAllTarpits(t *testing.T) {
	listen := testserver.FreeAddress(t)
	intake := startApart(t, func(ctx context.Context, o service.Options) (runnable, error) { return OpenAIService(ctx, o) },
		"data.directory="+t.TempDir(), "aiService.listen="+listen, "escalationEngine.url=in-process", "auth.proxy.key="+testProxyKey)
	pit := func() *apart {
		return startApart(t, openTarpitService, "data.directory="+t.TempDir(), "tarpit.listen="+testserver.FreeAddress(t), "aiService.url=http://"+listen,
			"auth.proxy.key="+testProxyKey, "tarpit.seed=seed-0123456789-0123", "tarpit.text=shuffled-facts")
	}
	one, other := pit(), pit()
	is := func(a *apart, want bool) func() error {
		return func() error {
			on, err := a.switched(t)
			if err == nil && on != want {
				err = errors.New("the switch is in another position")
			}
			return err
		}
	}
	eventually(t, is(one, true))
	one.put(t, "/v1/tarpit", `{"on":false}`, 200)
	if err := is(one, false)(); err != nil {
		t.Error(err)
	}
	eventually(t, is(other, false))
	one.stop()
	one = pit()
	eventually(t, is(one, false))
	one.put(t, "/v1/tarpit", `{"on":true}`, 200)
	eventually(t, is(other, true))

	// Without ai-service off is in force all the same, and that it will not stay is said.
	intake.stop()
	one.put(t, "/v1/tarpit", `{"on":false}`, 503)
	if err := is(one, false)(); err != nil {
		t.Error(err)
	}
}

// A tarpit by itself keeps its switch in its data directory.
func TestATarpitByItselfKeepsItsSwitch(t *testing.T) {
	dir := t.TempDir()
	pit := func() *apart {
		return startApart(t, openTarpitService, "data.directory="+dir, "tarpit.listen="+testserver.FreeAddress(t), "tarpit.fronts=127.0.0.1/32", "tarpit.text=shuffled-facts")
	}
	p := pit()
	p.put(t, "/v1/tarpit", `{"on":false}`, 200)
	p.stop()
	p = pit()
	if on, err := p.switched(t); err != nil || on {
		t.Errorf("on: %v, %v", on, err)
	}
}
