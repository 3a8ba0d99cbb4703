package drip

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestRealClientsBearWithIt(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
	}{
		{"curl", []string{"-sSkN", "--max-time", "30"}},
		{"wget", []string{"-q", "--no-check-certificate", "--timeout=10", "--tries=1", "-O", "-"}},
	} {
		for _, kind := range []string{"plain", "TLS", "HTTP/2"} {
			t.Run(c.name+", "+kind, func(t *testing.T) {
				t.Parallel()
				path, err := exec.LookPath(c.name)
				if err != nil {
					t.Skip("it is not installed")
				}
				w, _ := running(t, Options{Connections: 1, MinWait: 300 * time.Millisecond, MaxWait: 600 * time.Millisecond})
				server, stays := site(t, w, Stream{Head: []byte(chunkedHead), Chunked: true, Max: 2 * time.Second}, servers[kind])
				cmd := exec.CommandContext(t.Context(), path, append(c.args, server.URL)...)
				cmd.Env = []string{"PATH=/usr/bin:/bin", "no_proxy=*"} // whatever proxy the machine has is not for this
				var failure bytes.Buffer
				cmd.Stderr = &failure
				body, err := cmd.Output()
				if err != nil {
					t.Fatalf("%v: %s", err, strings.TrimSpace(failure.String()))
				}
				if len(body) < 20 || !isLetters(body) {
					t.Errorf("%d bytes: %.60q", len(body), body)
				}
				ended(t, stays, Finished)
			})
		}
	}
}
