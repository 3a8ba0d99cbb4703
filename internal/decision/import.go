package decision

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/plain"
)

// Limits of an import.
const (
	MaxImportBytes    = 512 << 20 // of one import
	MaxImportLine     = 64 << 10  // of one line, in bytes; longer ones are problems
	MaxImportJSON     = 16 << 20  // of one JSON array, in bytes: NDJSON has no such limit
	MaxImportProblems = 100       // that are told apart; the rest are counted
)

// ErrImportTooLarge is returned for an import of more than MaxImportBytes, or a
// JSON array of more than MaxImportJSON. What came before stays imported.
var ErrImportTooLarge = errors.New("the import is too large")

// Format is the form of an import.
type Format string

// The formats.
const (
	// FormatAuto is NDJSON or JSON when the first character says so, otherwise FormatList.
	FormatAuto Format = ""
	// FormatList is one address, range or fingerprint a line, optionally with a reason after a
	// comma. What follows "#", ";" or a space is a comment. Lines of "ipset save"
	// ("add NAME 192.0.2.1 timeout 600") and of fail2ban's log ("… Ban 192.0.2.1") are understood.
	FormatList Format = "list"
	// FormatCSV is comma-separated values, with or without a header line. Columns
	// of these names are read: value (or ip, address, range, cidr, network, fingerprint, agent), scope,
	// action (or type), reason (or comment, scenario), site, created, expires, duration. Without a
	// header: value, reason. A field may be quoted but not span lines.
	FormatCSV Format = "csv"
	// FormatNDJSON is one defense.Decision in JSON a line, as Export writes it.
	FormatNDJSON Format = "ndjson"
	// FormatJSON is an array of decisions, or a single one.
	FormatJSON Format = "json"
)

// ParseFormat returns the format of that name.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case FormatAuto, FormatList, FormatCSV, FormatNDJSON, FormatJSON:
		return f, nil
	}
	return "", fmt.Errorf("unknown format %q: use one of list, csv, ndjson, json", s)
}

// ImportOptions say how to read an import and what its lines leave open.
type ImportOptions struct {
	Format Format
	// Origin is given to every line. Only when it is empty do lines keep an origin
	// of their own: do that with one's own exports, never with what comes from somebody
	// else. A line that has none is then "list:import".
	Origin string
	// Action is given to lines without one, and to every line when the origin is a
	// list or peer. Nil: challenge, so that a wrong list costs a reader a moment, not the page.
	Action  *defense.Action
	Reason  string    // for lines without one
	Site    string    // for lines without one
	Expires time.Time // for lines without one; zero: until deleted
	Force   bool      // see AddOptions
}

// Imported says what an import did.
type Imported struct {
	Lines     int           `json:"lines"`     // with something on them
	Added     int           `json:"added"`     // new decisions
	Updated   int           `json:"updated"`   // known ones with another expiry or reason
	Unchanged int           `json:"unchanged"` // known ones, and repetitions
	Expired   int           `json:"expired"`   // already over, and left out
	Rejected  int           `json:"rejected"`  // lines with a problem
	Problems  []LineProblem `json:"problems,omitempty"`
}

// LineProblem is what is wrong with a line.
type LineProblem struct {
	Line    int    `json:"line"` // from 1; of a JSON array the element
	Problem string `json:"problem"`
}

// String returns "line 7: problem".
func (p LineProblem) String() string { return fmt.Sprintf("line %d: %s", p.Line, p.Problem) }

// maxProblem bounds the text of a problem, which may quote the line.
const maxProblem = 300

func (r *Imported) reject(line int, err error) {
	if r.Rejected++; len(r.Problems) >= MaxImportProblems {
		return
	}
	r.Problems = append(r.Problems, LineProblem{line, plain.Clip(err.Error(), maxProblem)})
}

// Import adds the decisions that r holds, in batches of MaxBatch, and goes on over
// lines that are wrong: the result says which and why. An error says that it
// ended early: the reader's, the store's, or ErrImportTooLarge; the result then counts what was done until then.
func (l *Log) Import(ctx context.Context, r io.Reader, o ImportOptions) (Imported, error) {
	im := importer{log: l, o: o, now: l.now()}
	err := im.read(ctx, bufio.NewReaderSize(&limited{r: r, n: MaxImportBytes}, MaxImportLine))
	if err == nil {
		err = im.flush(ctx)
	}
	if err != nil {
		err = fmt.Errorf("importing decisions, after %d lines: %w", im.result.Lines, err)
	}
	return im.result, err
}

// limited reads up to n bytes and then fails.
type limited struct {
	r io.Reader
	n int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.n <= 0 {
		// What ends exactly here is not too large.
		if n, err := l.r.Read(make([]byte, 1)); n == 0 && err != nil {
			return 0, err
		}
		return 0, ErrImportTooLarge
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.n)])
	l.n -= int64(n)
	return n, err
}

// importer is the state of one import.
type importer struct {
	log     *Log
	o       ImportOptions
	now     time.Time
	columns []string // of CSV; nil until the first line was read
	result  Imported
	batch   []item
}

func (im *importer) read(ctx context.Context, r *bufio.Reader) error {
	if b, err := r.Peek(3); err == nil && string(b) == "\ufeff" {
		if _, err := r.Discard(len(b)); err != nil {
			return err
		}
	}
	format := im.o.Format
	if format == FormatAuto {
		var err error
		if format, err = detect(r); err != nil {
			return err
		}
	}
	var parse func(line string) (input, error)
	switch format {
	case FormatList:
		parse = parseListLine
	case FormatCSV:
		parse = im.parseCSVLine
	case FormatNDJSON:
		parse = func(line string) (input, error) { return parseInput([]byte(line)) }
	case FormatJSON:
		return im.readJSON(ctx, r)
	default:
		return fmt.Errorf("unknown format %q", format)
	}
	for n := 1; ; n++ {
		line, err := readLine(r)
		if errors.Is(err, errLongLine) {
			im.result.Lines++
			im.result.reject(n, err)
			continue
		}
		if err != nil && (err != io.EOF || line == "") {
			if err == io.EOF {
				err = nil
			}
			return err
		}
		in, parseErr := parse(line)
		if errors.Is(parseErr, errNothing) {
			continue
		}
		if err := im.take(ctx, n, in, parseErr); err != nil {
			return err
		}
	}
}

// detect looks at the first character.
func detect(r *bufio.Reader) (Format, error) {
	for n := 1; n <= MaxImportLine; n++ {
		b, err := r.Peek(n)
		if len(b) < n {
			if err == io.EOF {
				err = nil
			}
			return FormatList, err
		}
		switch b[n-1] {
		case ' ', '\t', '\r', '\n':
		case '[':
			return FormatJSON, nil
		case '{':
			return FormatNDJSON, nil
		default:
			return FormatList, nil
		}
	}
	return FormatList, nil
}

var (
	errNothing  = errors.New("nothing on this line")
	errLongLine = fmt.Errorf("longer than %d bytes", MaxImportLine)
)

// readLine returns the next line without its end. A line that is too long is skipped whole.
func readLine(r *bufio.Reader) (string, error) {
	b, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.ReadSlice('\n')
		}
		if err != nil && err != io.EOF {
			return "", err
		}
		return "", errLongLine
	}
	return string(bytes.TrimRight(b, "\r\n")), err
}

// readJSON reads an array of decisions or a single one.
func (im *importer) readJSON(ctx context.Context, r io.Reader) error {
	body, err := io.ReadAll(io.LimitReader(r, MaxImportJSON+1))
	if err != nil {
		return err
	}
	if len(body) > MaxImportJSON {
		return fmt.Errorf("%w: a JSON array of more than %d bytes; send one decision a line instead", ErrImportTooLarge, MaxImportJSON)
	}
	elements, err := splitJSON(body)
	if err != nil {
		return err
	}
	for i, e := range elements {
		in, err := parseInput(e)
		if err := im.take(ctx, i+1, in, err); err != nil {
			return err
		}
	}
	return nil
}

// take adds one parsed line to the batch, or its problem to the result.
func (im *importer) take(ctx context.Context, line int, in input, err error) error {
	im.result.Lines++
	var it item
	if err == nil {
		var d defense.Decision
		if d, err = im.complete(&in); err == nil {
			if !d.Expires.IsZero() && !d.Expires.After(im.now) {
				im.result.Expired++
				return nil
			}
			it, err = im.log.check(d, im.now, AddOptions{Force: im.o.Force})
		}
	}
	if err != nil {
		im.result.reject(line, err)
		return nil
	}
	if im.batch = append(im.batch, it); len(im.batch) < MaxBatch {
		return nil
	}
	return im.flush(ctx)
}

// complete makes a decision of what a line says and what the options add.
func (im *importer) complete(in *input) (defense.Decision, error) {
	challenge := defense.Challenge
	action := &challenge
	if im.o.Action != nil {
		action = im.o.Action
	}
	origin := im.o.Origin
	if origin == "" {
		if origin = in.Origin; origin == "" {
			origin = "list:import"
		}
	} else if kind, _, _ := strings.Cut(origin, ":"); kind == "list" || kind == "peer" {
		in.Action = nil
	}
	if in.Action == nil {
		in.Action = action
	}
	in.Origin = origin
	if in.Reason == "" {
		in.Reason = im.o.Reason
	}
	if in.Site == "" {
		in.Site = im.o.Site
	}
	if in.Expires.IsZero() {
		in.Expires = im.o.Expires
	}
	if in.lasts > 0 {
		in.Expires = im.now.Add(in.lasts)
	}
	return in.decision()
}

func (im *importer) flush(ctx context.Context) error {
	if len(im.batch) == 0 {
		return nil
	}
	if err := im.log.write(ctx); err != nil {
		return err
	}
	n, err := im.log.add(ctx, im.batch)
	im.log.unlock()
	im.result.Added += n.added
	im.result.Updated += n.updated
	im.result.Unchanged += n.unchanged
	im.batch = im.batch[:0]
	return err
}

// parseListLine reads a line of FormatList.
func parseListLine(line string) (input, error) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' || line[0] == ';' {
		return input{}, errNothing
	}
	// Comments first: a comma in one begins no reason.
	if i := strings.IndexAny(line, "#;"); i > 0 {
		line = strings.TrimSpace(line[:i])
	}
	if f := strings.Fields(line); len(f) > 1 {
		switch f[0] {
		case "create", "flush", "swap", "destroy":
			return input{}, errNothing
		case "add":
			return parseIPSet(f[1:])
		}
	}
	value, reason, _ := strings.Cut(line, ",")
	in := input{Value: strings.TrimSpace(value), Reason: strings.TrimSpace(reason)}
	if words := strings.Fields(in.Value); len(words) > 1 {
		if _, err := defense.ParseAddressOrPrefix(words[0]); err != nil {
			return parseFail2ban(line)
		}
		in.Value = words[0] // "192.0.2.1 anything", as in published lists with a score
	}
	return in, nil
}

// parseIPSet reads what follows "add" in ipset's output: SET ENTRY [timeout SECONDS] ….
func parseIPSet(f []string) (input, error) {
	if len(f) < 2 {
		return input{}, errors.New("an ipset line needs a set and an entry")
	}
	var in input
	in.Value, _, _ = strings.Cut(f[1], ",") // "192.0.2.1,tcp:80": a decision covers the whole address
	for i := 2; i+1 < len(f); i++ {
		if f[i] != "timeout" {
			continue
		}
		s, err := strconv.ParseUint(f[i+1], 10, 31)
		if err != nil {
			return input{}, fmt.Errorf("timeout %q is not a number of seconds", f[i+1])
		}
		in.lasts = time.Duration(s) * time.Second // 0: for ever, as ipset has it
	}
	return in, nil
}

// parseFail2ban reads a line of fail2ban's log.
func parseFail2ban(line string) (input, error) {
	f := strings.Fields(line)
	for i := 0; i+1 < len(f); i++ {
		switch f[i] {
		case "Ban":
			in := input{Value: f[i+1]}
			if i > 0 && strings.HasPrefix(f[i-1], "[") {
				in.Reason = "fail2ban " + strings.Trim(f[i-1], "[]")
			}
			return in, nil
		case "Unban", "Found", "Ignore":
			return input{}, errNothing
		}
	}
	return input{}, fmt.Errorf("%s is not an address or a range", quote(line))
}

// quote makes a text from outside fit for a message: short and printable.
func quote(s string) string {
	if len(s) > 60 {
		s = s[:60] + "…"
	}
	return strconv.Quote(s)
}

// parseCSVLine reads a line of FormatCSV; the first may be the header.
func (im *importer) parseCSVLine(line string) (input, error) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return input{}, errNothing
	}
	fields, err := splitCSV(line)
	if err != nil {
		return input{}, err
	}
	if im.columns == nil {
		if im.columns = header(fields); im.columns != nil {
			return input{}, errNothing
		}
		im.columns = []string{"value", "reason"}
	}
	var in input
	for i, name := range im.columns {
		if i >= len(fields) || fields[i] == "" {
			continue
		}
		if err := in.set(name, fields[i]); err != nil {
			return input{}, err
		}
	}
	if in.Value == "" {
		return input{}, &InvalidError{"value", "is missing"}
	}
	return in, nil
}

// header returns the columns' names in our words, "" for unknown ones; nil when
// fields are no header.
func header(fields []string) []string {
	names := make([]string, len(fields))
	known := false
	for i, f := range fields {
		switch f = strings.ToLower(f); f {
		case "value", "ip", "address", "range", "cidr", "network", "fingerprint", "agent", "ip_address":
			names[i], known = "value", true
			if f == "agent" {
				names[i] = "agent"
			}
		case "type":
			names[i] = "action"
		case "comment", "scenario", "description":
			names[i] = "reason"
		case "scope", "action", "reason", "site", "origin", "created", "expires", "duration":
			names[i] = f
		}
	}
	if !known {
		return nil
	}
	return names
}

// set gives a field its value from a column.
func (in *input) set(name, v string) (err error) {
	switch name {
	case "value":
		in.Value = v
	case "agent":
		s := defense.ScopeAgent
		in.Value, in.Scope = v, &s
	case "scope":
		if strings.EqualFold(v, "ip") {
			return nil // as others call an address
		}
		var s defense.Scope
		s, err = defense.ParseScope(strings.ToLower(v))
		in.Scope = &s
	case "action":
		if strings.EqualFold(v, "ban") {
			v = "deny"
		}
		var a defense.Action
		a, err = defense.ParseAction(strings.ToLower(v))
		in.Action = &a
	case "reason":
		in.Reason = v
	case "site":
		in.Site = v
	case "origin":
		in.Origin = v
	case "created":
		in.Created, err = time.Parse(time.RFC3339, v)
	case "expires":
		in.Expires, err = time.Parse(time.RFC3339, v)
	case "duration":
		if in.lasts, err = time.ParseDuration(v); err != nil {
			var s uint64
			if s, err = strconv.ParseUint(v, 10, 31); err == nil {
				in.lasts = time.Duration(s) * time.Second
			}
		}
		if err == nil && in.lasts <= 0 {
			err = errors.New("must be positive")
		}
	}
	if err == nil {
		return nil
	}
	switch name {
	case "created", "expires":
		err = fmt.Errorf("%s is not a time such as 2026-01-31T12:00:00Z", quote(v))
	case "duration":
		err = fmt.Errorf("%s is not a duration such as 4h or 600 (seconds)", quote(v))
	}
	return &InvalidError{name, err.Error()}
}

// splitCSV splits one line by RFC 4180.
func splitCSV(line string) ([]string, error) {
	var fields []string
	for {
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] != '"' {
			f, rest, more := strings.Cut(line, ",")
			fields = append(fields, strings.TrimSpace(f))
			if !more {
				return fields, nil
			}
			line = rest
			continue
		}
		var b strings.Builder
		line = line[1:]
		for {
			part, rest, closed := strings.Cut(line, `"`)
			if !closed {
				return nil, errors.New("a quoted field does not end on this line")
			}
			b.WriteString(part)
			if !strings.HasPrefix(rest, `"`) {
				line = strings.TrimLeft(rest, " \t")
				break
			}
			b.WriteByte('"')
			line = rest[1:]
		}
		fields = append(fields, b.String())
		if line == "" {
			return fields, nil
		}
		if line[0] != ',' {
			return nil, errors.New("a comma is missing after a quoted field")
		}
		line = line[1:]
	}
}

// input is a decision as somebody writes it: what is left out can be told from
// what is said.
type input struct {
	ID       string          `json:"id"` // accepted, so that an export can be read, and ignored
	Scope    *defense.Scope  `json:"scope"`
	Value    string          `json:"value"`
	Action   *defense.Action `json:"action"`
	Origin   string          `json:"origin"`
	Reason   string          `json:"reason"`
	CaseID   string          `json:"caseId"`
	Site     string          `json:"site"`
	Created  time.Time       `json:"created"`
	Expires  time.Time       `json:"expires"`
	Sequence uint64          `json:"sequence"` // ignored like id

	lasts time.Duration // from now, 0: see Expires
}

// decision returns the decision that in describes. A missing scope is found from the value.
func (in *input) decision() (defense.Decision, error) {
	if in.Action == nil {
		return defense.Decision{}, &InvalidError{"action", "is missing: use allow, throttle, challenge, tarpit or deny"}
	}
	if in.Value == "" {
		return defense.Decision{}, &InvalidError{"value", "is missing"}
	}
	d := defense.Decision{
		Value: in.Value, Action: *in.Action, Origin: in.Origin, Reason: in.Reason, CaseID: in.CaseID, Site: in.Site,
		Created: in.Created, Expires: in.Expires,
	}
	if in.Scope != nil {
		d.Scope = *in.Scope
	} else if value := strings.TrimSpace(in.Value); isFingerprint(value) {
		d.Scope = defense.ScopeFingerprint
	} else if _, err := defense.ParseAddressOrPrefix(value); err != nil {
		return d, &InvalidError{"value", quote(in.Value) + " is not an address, range or fingerprint; for an agent say scope agent"}
	}
	return d, nil
}

func isFingerprint(s string) bool {
	_, err := defense.ParseFingerprint(strings.ToLower(s))
	return err == nil
}

// parseInput reads one decision in strict JSON.
func parseInput(b []byte) (input, error) {
	var in input
	if len(bytes.TrimSpace(b)) == 0 {
		return in, errNothing
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return in, jsonError(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return in, &InvalidError{Problem: "more than one JSON value"}
	}
	return in, nil
}

// jsonError says in the words of the format, not of the library, what is wrong.
func jsonError(err error) error {
	var wrongType *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &wrongType):
		return &InvalidError{wrongType.Field, "must not be a JSON " + wrongType.Value}
	case errors.As(err, &syntax):
		return &InvalidError{Problem: fmt.Sprintf("not JSON at byte %d: %v", syntax.Offset, err)}
	case errors.Is(err, io.ErrUnexpectedEOF), err == io.EOF:
		return &InvalidError{Problem: "the JSON ends early"}
	}
	problem := strings.TrimPrefix(err.Error(), "json: ")
	if name, ok := strings.CutPrefix(problem, "unknown field "); ok {
		if n, err := strconv.Unquote(name); err == nil && len(n) < 64 && printable(n) {
			return &InvalidError{n, "unknown field"}
		}
	}
	for _, f := range [...]string{"scope", "action"} {
		if strings.HasPrefix(problem, "unknown "+f) {
			return &InvalidError{f, problem}
		}
	}
	return &InvalidError{Problem: problem}
}

// splitJSON returns the elements of an array, or the one object that body is.
func splitJSON(body []byte) ([]json.RawMessage, error) {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return nil, &InvalidError{Problem: "nothing was sent: a decision or an array of them is needed"}
	}
	if body[0] != '[' {
		return []json.RawMessage{body}, nil
	}
	var out []json.RawMessage
	if err := json.Unmarshal(body, &out); err != nil {
		return nil, jsonError(err)
	}
	return out, nil
}
