package intake

import (
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// decoder reads events from JSON. It reads the usual ones itself, in about a fifth of the time of encoding/json, and leaves
// all that is unusual to that: what both read is the same, and FuzzDecode holds it to that. Unusual is any key that is not
// one of an event's, twice the same key, null, and a value of another type.
//
// A decoder is for one batch, in which the texts of signals and fingerprints recur.
type decoder struct {
	text  []byte
	at    int
	line  string // the same as text: strings that record.Bound will move are parts of it
	names map[string]string
}

// maxNames bounds the texts that a decoder remembers.
const maxNames = 512

// decode reads one event.
func (d *decoder) decode(line []byte) (*defense.Event, error) {
	e := new(defense.Event)
	d.text, d.at, d.line = line, 0, string(line)
	if d.event(e) && d.end() {
		return e, nil
	}
	e = new(defense.Event)
	if err := json.Unmarshal(line, e); err != nil {
		return nil, err
	}
	return e, nil
}

func (d *decoder) space() {
	for d.at < len(d.text) {
		switch d.text[d.at] {
		case ' ', '\t', '\n', '\r':
			d.at++
		default:
			return
		}
	}
}

func (d *decoder) end() bool {
	d.space()
	return d.at == len(d.text)
}

// next reports whether the next character is c, and passes it.
func (d *decoder) next(c byte) bool {
	d.space()
	if d.at < len(d.text) && d.text[d.at] == c {
		d.at++
		return true
	}
	return false
}

// raw returns what is between the next quotation marks, if it means what it says.
func (d *decoder) raw() (from, to int, ok bool) {
	if !d.next('"') {
		return 0, 0, false
	}
	from, ascii := d.at, true
	for i := from; i < len(d.text); i++ {
		switch c := d.text[i]; {
		case c == '"':
			d.at = i + 1
			return from, i, ascii || utf8.Valid(d.text[from:i])
		case c == '\\' || c < ' ':
			return 0, 0, false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return 0, 0, false
}

// bytes returns a text that is read and not kept.
func (d *decoder) bytes() ([]byte, bool) {
	from, to, ok := d.raw()
	return d.text[from:to], ok
}

// moved reads a text that record.Bound moves to memory of its own.
func (d *decoder) moved(to *string) bool {
	start := d.at
	if from, end, ok := d.raw(); ok {
		*to = d.line[from:end]
		return true
	}
	// It may have escapes.
	d.at = start
	d.space()
	start = d.at
	for i := start + 1; i < len(d.text); i++ {
		switch d.text[i] {
		case '\\':
			i++
		case '"':
			d.at = i + 1
			return d.text[start] == '"' && json.Unmarshal(d.text[start:d.at], to) == nil
		}
	}
	return false
}

// kept reads a text that stays where it is: one for all events of the batch.
func (d *decoder) kept(to *string) bool {
	b, ok := d.bytes()
	if !ok {
		return false
	}
	if s, known := d.names[string(b)]; known {
		*to = s
		return true
	}
	if d.names == nil {
		d.names = map[string]string{}
	}
	s := string(b)
	if len(d.names) < maxNames {
		d.names[s] = s
	}
	*to = s
	return true
}

// enum reads a text that a type has a method for.
func (d *decoder) enum(to interface{ UnmarshalText([]byte) error }) bool {
	b, ok := d.bytes()
	return ok && to.UnmarshalText(b) == nil
}

// number returns the text of a number.
func (d *decoder) number() (string, bool) {
	d.space()
	from := d.at
	digits := func() bool {
		n := d.at
		for d.at < len(d.text) && d.text[d.at]-'0' < 10 {
			d.at++
		}
		return d.at > n
	}
	is := func(set string) bool {
		for i := range len(set) {
			if d.at < len(d.text) && d.text[d.at] == set[i] {
				d.at++
				return true
			}
		}
		return false
	}
	is("-")
	if !is("0") && !digits() || is(".") && !digits() {
		return "", false
	}
	if is("eE") {
		if is("+-"); !digits() {
			return "", false
		}
	}
	return d.line[from:d.at], true
}

// integer reads a whole number of the type of to, which lies in least..most.
func integer[T int | int64 | uint32](d *decoder, to *T, least, most int64) bool {
	s, ok := d.number()
	if !ok {
		return false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < least || n > most || least == 0 && s[0] == '-' { // -0 is no unsigned number
		return false
	}
	*to = T(n)
	return true
}

func (d *decoder) int(to *int) bool     { return integer(d, to, math.MinInt, math.MaxInt) }
func (d *decoder) int64(to *int64) bool { return integer(d, to, math.MinInt64, math.MaxInt64) }

func (d *decoder) float(to *float64) bool {
	s, ok := d.number()
	if !ok {
		return false
	}
	f, err := strconv.ParseFloat(s, 64)
	*to = f
	return err == nil
}

func (d *decoder) bool(to *bool) bool {
	d.space()
	for _, word := range [...]string{"true", "false"} {
		if len(d.line)-d.at >= len(word) && d.line[d.at:d.at+len(word)] == word {
			d.at += len(word)
			*to = word == "true"
			return true
		}
	}
	return false
}

// object reads an object. field reads the value of a key and returns a number for the key, which is not there twice; below 0: it is none.
func (d *decoder) object(field func(key []byte) int) bool {
	if !d.next('{') {
		return false
	}
	if d.next('}') {
		return true
	}
	for had := uint64(0); ; {
		key, ok := d.bytes()
		if !ok || !d.next(':') {
			return false
		}
		n := field(key)
		if n < 0 || had>>n&1 == 1 {
			return false
		}
		had |= 1 << n
		if d.next('}') {
			return true
		}
		if !d.next(',') {
			return false
		}
	}
}

// when returns the number of a key whose value could be read.
func when(ok bool, n int) int {
	if !ok {
		return -1
	}
	return n
}

func (d *decoder) event(e *defense.Event) bool {
	return d.object(func(key []byte) int {
		switch string(key) {
		case "schema":
			return when(d.int(&e.Schema), 0)
		case "kind":
			return when(d.moved(&e.Kind), 1)
		case "id":
			return when(d.moved(&e.ID), 2)
		case "time":
			return when(d.enum(&e.Time), 3)
		case "site":
			return when(d.moved(&e.Site), 4)
		case "edge":
			return when(d.moved(&e.Edge), 5)
		case "client":
			return when(d.client(&e.Client), 6)
		case "request":
			return when(d.request(&e.Request), 7)
		case "identity":
			return when(d.identity(&e.Identity), 8)
		case "signals":
			return when(list(d, &e.Signals, d.signal), 9)
		case "verdict":
			return when(d.verdict(&e.Verdict), 10)
		case "response":
			return when(d.response(&e.Response), 11)
		case "challenge":
			e.Challenge = new(defense.EventOutcome)
			return when(d.challenge(e.Challenge), 12)
		case "tarpit":
			e.Tarpit = new(defense.EventTarpit)
			return when(d.tarpit(e.Tarpit), 13)
		case "requestId":
			return when(d.moved(&e.RequestID), 14)
		case "transient":
			return when(d.bool(&e.Transient), 15)
		}
		return -1
	})
}

func (d *decoder) client(c *defense.EventClient) bool {
	return d.object(func(key []byte) int {
		switch string(key) {
		case "address":
			return when(d.moved(&c.Address), 0)
		case "prefix":
			return when(d.moved(&c.Prefix), 1)
		case "asn":
			return when(integer(d, &c.ASN, 0, math.MaxUint32), 2)
		case "country":
			return when(d.moved(&c.Country), 3)
		case "token":
			return when(d.moved(&c.Token), 4)
		}
		return -1
	})
}

func (d *decoder) request(r *defense.EventRequest) bool {
	return d.object(func(key []byte) int {
		switch string(key) {
		case "method":
			return when(d.moved(&r.Method), 0)
		case "host":
			return when(d.moved(&r.Host), 1)
		case "path":
			return when(d.moved(&r.Path), 2)
		case "query":
			return when(d.moved(&r.Query), 3)
		case "kind":
			return when(d.enum(&r.Kind), 4)
		case "class":
			return when(d.moved(&r.Class), 5)
		case "protocol":
			return when(d.moved(&r.Protocol), 6)
		case "agent":
			return when(d.moved(&r.Agent), 7)
		case "family":
			return when(d.enum(&r.Family), 8)
		case "referrer":
			return when(d.moved(&r.Referrer), 9)
		case "headers":
			return when(d.headers(&r.Headers), 10)
		case "tls":
			r.TLS = new(defense.EventTLS)
			return when(d.tls(r.TLS), 11)
		}
		return -1
	})
}

func (d *decoder) headers(h *defense.EventHeaders) bool {
	return d.object(func(key []byte) int {
		switch string(key) {
		case "shape":
			return when(d.moved(&h.Shape), 0)
		case "accept":
			return when(d.moved(&h.Accept), 1)
		case "acceptLanguage":
			return when(d.moved(&h.AcceptLanguage), 2)
		case "secFetchSite":
			return when(d.moved(&h.SecFetchSite), 3)
		case "secFetchMode":
			return when(d.moved(&h.SecFetchMode), 4)
		case "secFetchDest":
			return when(d.moved(&h.SecFetchDest), 5)
		}
		return -1
	})
}

func (d *decoder) tls(t *defense.EventTLS) bool {
	return d.object(func(key []byte) int {
		switch string(key) {
		case "version":
			return when(d.kept(&t.Version), 0)
		case "ja4":
			return when(d.kept(&t.JA4), 1)
		}
		return -1
	})
}

func (d *decoder) identity(i *defense.EventIdentity) bool {
	return d.object(func(key []byte) int {
		switch string(key) {
		case "crawler":
			return when(d.moved(&i.Crawler), 0)
		case "status":
			return when(d.enum(&i.Status), 1)
		case "how":
			return when(d.moved(&i.How), 2)
		}
		return -1
	})
}

func (d *decoder) signal(s *defense.Signal) bool {
	return d.object(func(key []byte) int {
		switch string(key) {
		case "name":
			return when(d.kept(&s.Name), 0)
		case "weight":
			return when(d.int(&s.Weight), 1)
		case "sentence":
			return when(d.kept(&s.Sentence), 2)
		}
		return -1
	})
}

func (d *decoder) verdict(v *defense.EventVerdict) bool {
	return d.object(func(key []byte) int {
		switch string(key) {
		case "action":
			return when(d.enum(&v.Action), 0)
		case "intended":
			return when(d.enum(&v.Intended), 1)
		case "score":
			return when(d.int(&v.Score), 2)
		case "rule":
			return when(d.moved(&v.Rule), 3)
		case "reason":
			return when(d.moved(&v.Reason), 4)
		case "basis":
			return when(d.enum(&v.Basis), 5)
		case "mode":
			return when(d.enum(&v.Mode), 6)
		case "posture":
			return when(d.enum(&v.Posture), 7)
		case "decision":
			return when(d.moved(&v.Decision), 8)
		case "shadow":
			return when(list(d, &v.Shadow, d.shadow), 9)
		}
		return -1
	})
}

func (d *decoder) shadow(h *defense.ShadowHit) bool {
	return d.object(func(key []byte) int {
		switch string(key) {
		case "rule":
			return when(d.kept(&h.Rule), 0)
		case "action":
			return when(d.enum(&h.Action), 1)
		case "score":
			return when(d.int(&h.Score), 2)
		}
		return -1
	})
}

func (d *decoder) response(r *defense.EventResponse) bool {
	return d.object(func(key []byte) int {
		switch string(key) {
		case "status":
			return when(d.int(&r.Status), 0)
		case "bytes":
			return when(d.int64(&r.Bytes), 1)
		case "duration":
			return when(d.float(&r.Duration), 2)
		case "upstreamDuration":
			return when(d.float(&r.UpstreamDuration), 3)
		}
		return -1
	})
}

func (d *decoder) challenge(c *defense.EventOutcome) bool {
	return d.object(func(key []byte) int {
		switch string(key) {
		case "id":
			return when(d.kept(&c.ID), 0)
		case "kind":
			return when(d.kept(&c.Kind), 1)
		case "outcome":
			return when(d.kept(&c.Outcome), 2)
		}
		return -1
	})
}

func (d *decoder) tarpit(t *defense.EventTarpit) bool {
	return d.object(func(key []byte) int {
		switch string(key) {
		case "held":
			return when(d.float(&t.Held), 0)
		case "bytes":
			return when(d.int64(&t.Bytes), 1)
		case "depth":
			return when(d.int(&t.Depth), 2)
		}
		return -1
	})
}

// maxList is how many signals or shadow hits are usual.
const maxList = 64

// list reads an array.
func list[T any](d *decoder, to *[]T, one func(*T) bool) bool {
	if !d.next('[') {
		return false
	}
	*to = []T{}
	if d.next(']') {
		return true
	}
	for len(*to) < maxList {
		var v T
		if !one(&v) {
			return false
		}
		*to = append(*to, v)
		if d.next(']') {
			return true
		}
		if !d.next(',') {
			return false
		}
	}
	return false
}
