// Package accesslog reads the access logs of web servers: Apache's and nginx's
// Common and Combined formats with and without the virtual host, formats given by
// the server's own format string, the JSON of Caddy, Traefik and Envoy, and the
// logs of Traefik, nginx Proxy Manager, HAProxy and AWS load balancers.
//
//	src, err := accesslog.Open("access.log.gz", os.Stdin)
//	...
//	defer src.Close()
//	r := accesslog.NewReader(src, nil) // nil: find out which format it is
//	var e accesslog.Entry
//	for {
//		if err := r.Next(&e); err == io.EOF {
//			break
//		} else if err != nil {
//			...
//		}
//		// e is valid until the next call
//	}
//	stats := r.Stats() // how many lines were broken, and why
//
// A log is written by strangers: every field of every line may hold what a client
// sent. Lines are bounded, a line that does not fit is counted with its reason and
// passed over, and the examples of broken lines are escaped for a terminal.
//
// What a log does not tell is left out rather than guessed: see [Entry].
package accesslog

import (
	"strconv"
	"time"

	"github.com/quickthorn/quickthorn/internal/profile"
)

// MaxLine bounds a line, in bytes; a longer one is broken.
const MaxLine = 64 << 10

// Entry is one request of an access log. Its strings share memory with the line,
// and its Header is used again by the next line: clone what is kept.
//
// The client is the address that connected. If that is a private one, which is
// that of a proxy, and the log holds X-Forwarded-For, it is the last public address
// named there.
type Entry struct {
	profile.LogEntry
	Status   int           // of the answer, 0 if the log does not tell
	Bytes    int64         // sent to the client, with or without header as the server counts; 0 if the log does not tell
	Duration time.Duration // that the server took, 0 if the log does not tell
	Upstream time.Duration // that the server behind it took, 0 if the log does not tell
}

// Reason is why a line gives no entry. It is an error without further detail, so
// that a flood of broken lines costs nothing but its count.
type Reason uint8

// The reasons.
const (
	ReasonLayout    Reason = iota + 1 // the line does not have the format's form
	ReasonTooLong                     // more than MaxLine bytes
	ReasonTime                        // no time, or none that can be read
	ReasonNoClient                    // no client address
	ReasonHostName                    // a host name in place of the client's address
	ReasonNoRequest                   // the client connected and sent nothing
	ReasonRequest                     // what the client sent is no HTTP request
	ReasonStatus                      // the status is no number
	ReasonOther                       // an entry of another kind: an error, a start, a comment
	reasons                           // their number
)

var reasonNames = [reasons]string{
	ReasonLayout:    "does not have the form of the format",
	ReasonTooLong:   "longer than 64 KiB",
	ReasonTime:      "time cannot be read",
	ReasonNoClient:  "no client address",
	ReasonHostName:  "client is a host name: turn off HostnameLookups",
	ReasonNoRequest: "client sent no request",
	ReasonRequest:   "not an HTTP request",
	ReasonStatus:    "status is no number",
	ReasonOther:     "not a request: another kind of entry",
}

// Error returns the reason as it is shown in a report.
func (r Reason) Error() string {
	if r > 0 && r < reasons {
		return reasonNames[r]
	}
	return "unknown reason " + strconv.Itoa(int(r))
}

// fits reports whether a line with this reason is nevertheless one of its format:
// the server wrote it so, and what is wrong is what the client sent.
func (r Reason) fits() bool {
	return r == ReasonHostName || r == ReasonNoRequest || r == ReasonRequest || r == ReasonNoClient
}

// parser reads the lines of one format. It is used by one goroutine.
type parser interface {
	// parse sets e, which is zero, from a line without its end. The error is a Reason.
	parse(line string, e *Entry) error
}

// Format is a form of access log. It is immutable; make one by [Detect], [Named] or [Compile].
type Format struct {
	name string
	new  func() parser
}

// Name returns the format's name, such as "combined" or "caddy".
func (f *Format) Name() string { return f.name }

// A Parser reads lines of one format. It is not safe for concurrent use.
type Parser struct{ p parser }

// NewParser returns a parser of the format.
func (f *Format) NewParser() *Parser { return &Parser{f.new()} }

// Parse sets e from a line without its end; the line may be overwritten afterwards. The error is a [Reason].
func (p *Parser) Parse(line []byte, e *Entry) error {
	*e = Entry{}
	if len(line) > MaxLine {
		return ReasonTooLong
	}
	return p.p.parse(string(line), e)
}
