package accesslog

import (
	"errors"
	"fmt"
	"strings"
)

// maxFormat bounds a server's format string, in bytes.
const maxFormat = 16 << 10

// layout is a compiled format string: texts that must be there and fields between them.
type layout struct {
	steps []step
	end   string // what follows the last field
}

// step is a text and the field behind it.
type step struct {
	before string
	field  field
	name   string // of a header, or a layout of package time
	source string // as written, for messages
}

// layouts reads a line by the first of several layouts that it has the form of.
type layouts struct {
	all []*layout
	d   draft
}

func (l *layouts) parse(line string, e *Entry) error {
	var err error
	for _, one := range l.all {
		*e = Entry{}
		l.d.reset()
		if err = one.parse(line, e, &l.d); err == nil {
			err = l.d.finish(e)
		}
		if err == nil || err.(Reason).fits() || err == ReasonTime {
			return err
		}
	}
	return err
}

func (l *layout) parse(line string, e *Entry, d *draft) error {
	for i := range l.steps {
		st := &l.steps[i]
		rest, ok := strings.CutPrefix(line, st.before)
		if !ok {
			return ReasonLayout
		}
		var end int
		switch {
		case i+1 == len(l.steps):
			if !strings.HasSuffix(rest, l.end) {
				return ReasonLayout
			}
			end = len(rest) - len(l.end)
		default:
			next := l.steps[i+1].before
			if next == "" {
				next = "/" // a host in front of a path: see Compile
			}
			if end = until(rest, next, strings.HasSuffix(st.before, `"`) && next[0] == '"'); end < 0 {
				return ReasonLayout
			}
		}
		if err := d.set(st.field, st.name, unescape(rest[:end]), e); err != nil {
			return err
		}
		line = rest[end:]
	}
	return nil
}

// until returns where next begins in s, −1 if nowhere; in quotes, an escaped quote does not count.
func until(s, next string, quoted bool) int {
	for at := 0; ; {
		i := strings.Index(s[at:], next)
		if i < 0 {
			return -1
		}
		if i += at; !quoted || !escaped(s, i) {
			return i
		}
		at = i + 1
	}
}

// Compile makes a format of a server's own format string: nginx's log_format
// ('$remote_addr - [$time_local] "$request" …') or Apache's LogFormat
// ("%h %l %u %t \"%r\" …"). The whole directive may be given as well. The string
// must hold the time, the client and the request; what it holds beyond the known is passed over.
func Compile(format string) (*Format, error) {
	if len(format) > maxFormat {
		return nil, fmt.Errorf("log format: %d bytes long, at most %d", len(format), maxFormat)
	}
	name, l, err := compile(strings.TrimSpace(format))
	if err != nil {
		return nil, fmt.Errorf("log format: %w", err)
	}
	return &Format{name, func() parser { return &layouts{all: []*layout{l}} }}, nil
}

func compile(format string) (string, *layout, error) {
	name, read := "nginx", nginxFields
	lower := strings.ToLower(format)
	switch {
	case strings.HasPrefix(lower, "log_format"):
		s, err := directive(format, false)
		if err != nil {
			return "", nil, err
		}
		format = s
	case strings.HasPrefix(lower, "logformat"), strings.HasPrefix(lower, "customlog"):
		s, err := directive(format, true)
		if err != nil {
			return "", nil, err
		}
		name, read, format = "apache", apacheFields, s
	case strings.Contains(format, "%") && !strings.Contains(format, "$"):
		name, read = "apache", apacheFields
	case !strings.Contains(format, "$"):
		return "", nil, errors.New("holds neither nginx's variables ($remote_addr) nor Apache's (%h)")
	}
	steps, end, err := read(format)
	if err != nil {
		return "", nil, err
	}
	l := &layout{end: end}
	for _, st := range steps {
		if err := l.add(st); err != nil {
			return "", nil, err
		}
	}
	return name, l, l.check()
}

// add appends a step. Fields with nothing between them can be told apart only in a few cases.
func (l *layout) add(st step) error {
	if len(l.steps) == 0 || st.before != "" {
		l.steps = append(l.steps, st)
		return nil
	}
	last := &l.steps[len(l.steps)-1]
	switch {
	case last.field == fieldPath && (st.field == fieldQuery || st.field == fieldIgnored):
		// $uri$is_args$args and %U%q are the target, or become it with the next field.
		if st.field == fieldQuery {
			last.field = fieldTarget
		}
	case last.field == fieldIgnored && st.field == fieldIgnored:
	case (last.field == fieldHost || last.field == fieldServerName) && (st.field == fieldTarget || st.field == fieldPath):
		l.steps = append(l.steps, st) // the path begins at the first slash
		return nil
	default:
		return fmt.Errorf("nothing stands between %s and %s, so that they cannot be told apart", last.source, st.source)
	}
	last.source += st.source
	return nil
}

// check reports what a format lacks.
func (l *layout) check() error {
	var has [fieldHeader + 1]bool
	times := 0
	for _, st := range l.steps {
		has[st.field] = true
		switch st.field {
		case fieldTime, fieldSeconds, fieldMillis, fieldMicros, fieldLayout:
			times++
		}
	}
	switch {
	case times == 0:
		return errors.New("holds no time ($time_local, $time_iso8601, $msec; %t)")
	case times > 1:
		return errors.New("holds the time in several parts: one with date, time and zone is needed")
	case !has[fieldClient] && !has[fieldForwarded]:
		return errors.New("holds no client address ($remote_addr; %h or %a)")
	case !has[fieldRequest] && !(has[fieldMethod] && (has[fieldTarget] || has[fieldPath])):
		return errors.New("holds no request ($request, or $request_method and $request_uri; %r, or %m and %U%q)")
	}
	return nil
}

// directive returns the format string within a directive: with nginx all strings in
// quotes, joined; with Apache the one that holds a "%", as the name of a file may be
// in quotes as well. nginx's escapes are undone here, Apache's by apacheFields.
func directive(s string, apache bool) (string, error) {
	var b strings.Builder
	found := false
	for i := 0; i < len(s); i++ {
		q := s[i]
		if q != '\'' && q != '"' {
			continue
		}
		part := b.Len()
		closed := false
		for i++; i < len(s) && !closed; i++ {
			switch {
			case s[i] == q:
				closed = true
			case s[i] == '\\' && i+1 < len(s):
				i++
				switch c := s[i]; {
				case apache:
					b.WriteString(s[i-1 : i+1])
				case c == 't':
					b.WriteByte('\t')
				case c == '\'' || c == '"' || c == '\\':
					b.WriteByte(c)
				default:
					b.WriteString(s[i-1 : i+1])
				}
			default:
				b.WriteByte(s[i])
			}
		}
		if !closed {
			return "", fmt.Errorf("a quote (%c) is not closed", q)
		}
		i--
		found = true
		if apache && strings.Contains(b.String()[part:], "%") {
			return b.String()[part:], nil
		}
	}
	if !found || apache {
		return "", errors.New("the directive holds no format in quotes")
	}
	return b.String(), nil
}

// nginxFields reads a log_format string.
func nginxFields(format string) (steps []step, end string, err error) {
	var before strings.Builder
	for i := 0; i < len(format); {
		if format[i] != '$' {
			before.WriteByte(format[i])
			i++
			continue
		}
		start := i
		i++
		braces := i < len(format) && format[i] == '{'
		if braces {
			i++
		}
		from := i
		for i < len(format) && isWord(format[i]) {
			i++
		}
		name := format[from:i]
		if name == "" {
			return nil, "", fmt.Errorf("$ without a variable's name at byte %d", start+1)
		}
		if braces {
			if i >= len(format) || format[i] != '}' {
				return nil, "", fmt.Errorf("${%s is not closed", name)
			}
			i++
		}
		f, header := nginxVariable(name)
		steps = append(steps, step{before.String(), f, header, "$" + name})
		before.Reset()
	}
	return steps, before.String(), nil
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}

func nginxVariable(name string) (field, string) {
	switch name {
	case "remote_addr":
		return fieldClient, ""
	case "http_x_forwarded_for", "proxy_add_x_forwarded_for", "proxy_protocol_addr", "http_x_real_ip", "http_cf_connecting_ip", "http_true_client_ip":
		return fieldForwarded, ""
	case "time_local", "time_iso8601":
		return fieldTime, ""
	case "msec":
		return fieldSeconds, ""
	case "request":
		return fieldRequest, ""
	case "request_method":
		return fieldMethod, ""
	case "request_uri":
		return fieldTarget, ""
	case "uri", "document_uri":
		return fieldPath, ""
	case "args", "query_string":
		return fieldQuery, ""
	case "server_protocol":
		return fieldProtocol, ""
	case "status":
		return fieldStatus, ""
	case "body_bytes_sent", "bytes_sent":
		return fieldBytes, ""
	case "http_referer":
		return fieldReferer, ""
	case "http_user_agent":
		return fieldAgent, ""
	case "host", "http_host":
		return fieldHost, ""
	case "server_name":
		return fieldServerName, ""
	case "scheme":
		return fieldScheme, ""
	case "https":
		return fieldSecure, ""
	case "request_time":
		return fieldDuration, ""
	case "upstream_response_time":
		return fieldUpstream, ""
	}
	if header, ok := strings.CutPrefix(name, "http_"); ok {
		return fieldHeader, strings.ReplaceAll(header, "_", "-")
	}
	return fieldIgnored, ""
}

// apacheFields reads a LogFormat string.
func apacheFields(format string) (steps []step, end string, err error) {
	var before strings.Builder
	for i := 0; i < len(format); {
		c := format[i]
		i++
		if c == '\\' && i < len(format) {
			switch format[i] {
			case 'n':
				before.WriteByte('\n')
			case 't':
				before.WriteByte('\t')
			default:
				before.WriteByte(format[i])
			}
			i++
			continue
		}
		if c != '%' {
			before.WriteByte(c)
			continue
		}
		start := i - 1
		// Modifiers: a list of statuses, "!" and which of several requests is meant.
		for i < len(format) && strings.IndexByte("!0123456789,<>", format[i]) >= 0 {
			i++
		}
		argument := ""
		if i < len(format) && format[i] == '{' {
			n := strings.IndexByte(format[i:], '}')
			if n < 0 {
				return nil, "", fmt.Errorf("%s… is not closed", clip(format[start:]))
			}
			argument = format[i+1 : i+n]
			i += n + 1
		}
		if i >= len(format) {
			return nil, "", fmt.Errorf("%% without a letter at byte %d", start+1)
		}
		letter := format[i]
		i++
		if letter == '%' {
			before.WriteByte('%')
			continue
		}
		if letter == '^' && i+1 < len(format) { // %^FB, %{X}^ti
			i += 2
		}
		source := format[start:i]
		f, name, err := apacheDirective(letter, argument)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", source, err)
		}
		if letter == 't' && argument == "" {
			before.WriteByte('[')
			steps = append(steps, step{before.String(), f, name, source})
			before.Reset()
			before.WriteByte(']')
			continue
		}
		steps = append(steps, step{before.String(), f, name, source})
		before.Reset()
	}
	return steps, before.String(), nil
}

func clip(s string) string { return s[:min(len(s), 40)] }

func apacheDirective(letter byte, argument string) (field, string, error) {
	switch letter {
	case 'h':
		return fieldClient, "", nil
	case 'a':
		if argument == "c" { // the peer; without it, the client that mod_remoteip made out
			return fieldIgnored, "", nil
		}
		return fieldClient, "", nil
	case 't':
		return apacheTime(argument)
	case 'r':
		return fieldRequest, "", nil
	case 'm':
		return fieldMethod, "", nil
	case 'U':
		return fieldPath, "", nil
	case 'q':
		return fieldQuery, "", nil
	case 'H':
		return fieldProtocol, "", nil
	case 's':
		return fieldStatus, "", nil
	case 'b', 'B', 'O':
		return fieldBytes, "", nil
	case 'D':
		return fieldDurationUs, "", nil
	case 'T':
		switch argument {
		case "ms":
			return fieldDurationMs, "", nil
		case "us":
			return fieldDurationUs, "", nil
		}
		return fieldDuration, "", nil
	case 'v', 'V':
		return fieldServerName, "", nil
	case 'i':
		switch strings.ToLower(argument) {
		case "":
			return 0, "", errors.New("needs the name of a header, as in %{Referer}i")
		case "referer":
			return fieldReferer, "", nil
		case "user-agent":
			return fieldAgent, "", nil
		case "host":
			return fieldHost, "", nil
		case "x-forwarded-for", "x-real-ip", "cf-connecting-ip", "true-client-ip":
			return fieldForwarded, "", nil
		}
		return fieldHeader, argument, nil
	case 'A', 'C', 'e', 'f', 'I', 'k', 'l', 'L', 'n', 'o', 'p', 'P', 'R', 'S', 'u', 'X', 'x', 'c', '^':
		return fieldIgnored, "", nil
	}
	return 0, "", errors.New("is no directive of Apache's")
}

// apacheTime translates the argument of %{…}t.
func apacheTime(argument string) (field, string, error) {
	argument = strings.TrimPrefix(strings.TrimPrefix(argument, "begin:"), "end:")
	switch argument {
	case "":
		return fieldTime, "", nil
	case "sec", "%s":
		return fieldSeconds, "", nil
	case "msec":
		return fieldMillis, "", nil
	case "usec":
		return fieldMicros, "", nil
	case "msec_frac", "usec_frac":
		return fieldIgnored, "", nil
	}
	var b strings.Builder
	for i := 0; i < len(argument); i++ {
		if argument[i] != '%' || i+1 == len(argument) {
			b.WriteByte(argument[i])
			continue
		}
		i++
		to := map[byte]string{
			'Y': "2006", 'y': "06", 'm': "01", 'b': "Jan", 'h': "Jan", 'B': "January", 'd': "02", 'e': "_2", 'H': "15", 'I': "03", 'p': "PM",
			'M': "04", 'S': "05", 'z': "-0700", 'Z': "MST", 'T': "15:04:05", 'R': "15:04", 'F': "2006-01-02", 'D': "01/02/06", 'a': "Mon", 'A': "Monday", '%': "%",
		}[argument[i]]
		if to == "" {
			return 0, "", fmt.Errorf("%%%c is not supported in a time", argument[i])
		}
		b.WriteString(to)
	}
	return fieldLayout, b.String(), nil
}
