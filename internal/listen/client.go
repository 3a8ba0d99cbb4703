package listen

import (
	"context"
	"net"
	"net/http"
	"strings"
	"time"
)

// Client returns a client of what listens at an address of this machine, and the beginning of its URLs. An address for all
// interfaces is asked on the loopback one.
func Client(address string) (base string, client *http.Client) {
	t := &http.Transport{ResponseHeaderTimeout: time.Minute}
	client = &http.Client{Transport: t}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
		return "http://localhost", client
	}
	if host, port, err := net.SplitHostPort(address); err == nil && (host == "" || host == "0.0.0.0" || host == "::") {
		return "http://" + net.JoinHostPort("127.0.0.1", port), client
	}
	return "http://" + address, client
}
