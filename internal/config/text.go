package config

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"path"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Size is a number of bytes. It is written with a unit: 64KiB, 1GiB, 500MB; only 0 needs none.
type Size int64

type sizeUnit struct {
	name  string
	bytes int64
}

// sizeUnits are the units in the order in which a suffix is looked for.
func sizeUnits() []sizeUnit {
	return []sizeUnit{
		{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
		{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1},
	}
}

// ParseSize reads a size. The error says what would be right.
func ParseSize(s string) (Size, error) {
	if s == "0" {
		return 0, nil
	}
	for _, u := range sizeUnits() {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n < 0 {
			return 0, fmt.Errorf("%s is not a size such as 64KiB", quote(s))
		}
		if n > math.MaxInt64/u.bytes {
			return 0, fmt.Errorf("%s is too large", quote(s))
		}
		return Size(n * u.bytes), nil
	}
	if _, err := strconv.ParseUint(s, 10, 63); err == nil {
		return 0, fmt.Errorf("%s needs a unit such as %sKiB or %sB", quote(s), s, s)
	}
	return 0, fmt.Errorf("%s is not a size such as 64KiB or 1GiB", quote(s))
}

// String returns the size in the largest binary unit that divides it.
func (s Size) String() string {
	if s == 0 {
		return "0"
	}
	for _, u := range sizeUnits()[:4] {
		if int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(b []byte) (err error) {
	*s, err = ParseSize(string(b))
	return err
}

// MarshalText writes the size with its unit.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

const day = 24 * time.Hour

// ParseDuration reads what [time.ParseDuration] reads, and whole days in front: 30s, 1h30m, 7d,
// 1d12h. Negative durations are refused; only 0 needs no unit.
func ParseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf("%s is not a duration such as 30s, 5m or 7d", quote(s))
	if _, err := strconv.ParseFloat(s, 64); err == nil && s != "0" {
		if strings.HasPrefix(s, "-") {
			return 0, fmt.Errorf("%s is negative", quote(s))
		}
		return 0, fmt.Errorf("%s needs a unit such as %ss", quote(s), s)
	}
	var total time.Duration
	rest := s
	if number, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(number, 10, 31)
		if err != nil {
			return 0, bad
		}
		if n > uint64(math.MaxInt64/day) {
			return 0, fmt.Errorf("%s is too long", quote(s))
		}
		total, rest = time.Duration(n)*day, after
		if rest == "" {
			return total, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil {
		return 0, bad
	}
	if d < 0 || strings.HasPrefix(rest, "-") || strings.HasPrefix(rest, "+") {
		return 0, fmt.Errorf("%s is negative or signed", quote(s))
	}
	if total > math.MaxInt64-d {
		return 0, fmt.Errorf("%s is too long", quote(s))
	}
	return total + d, nil
}

// FormatDuration writes a duration as a person would: 7d, 1h30m, 1m30s.
func FormatDuration(d time.Duration) string {
	var b strings.Builder
	if d >= day {
		fmt.Fprintf(&b, "%dd", d/day)
		d %= day
		if d == 0 {
			return b.String()
		}
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	b.WriteString(s)
	return b.String()
}

// kind is how a setting is written.
type kind string

const (
	kindText     kind = "text"
	kindBool     kind = "true or false"
	kindInt      kind = "whole number"
	kindFloat    kind = "number"
	kindDuration kind = "duration"
	kindSize     kind = "size"
	kindPrefix   kind = "address or range"
	kindSection  kind = "section"
	kindTable    kind = "list of sections"
)

var (
	durationType  = reflect.TypeFor[time.Duration]()
	sizeType      = reflect.TypeFor[Size]()
	prefixType    = reflect.TypeFor[netip.Prefix]()
	unmarshalType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// kindOf returns how a value of type t is written. A type that it does not know is a programming error.
func kindOf(t reflect.Type) kind {
	switch {
	case t == durationType:
		return kindDuration
	case t == sizeType:
		return kindSize
	case t == prefixType:
		return kindPrefix
	case reflect.PointerTo(t).Implements(unmarshalType):
		return kindText
	}
	switch t.Kind() {
	case reflect.String:
		return kindText
	case reflect.Bool:
		return kindBool
	case reflect.Int:
		return kindInt
	case reflect.Float64:
		return kindFloat
	case reflect.Struct:
		return kindSection
	}
	panic("config: no text form for " + t.String())
}

// maxText bounds one value, in bytes.
const maxText = 4096

// parse reads text into v, which is no slice and no pointer.
func parse(v reflect.Value, text string) error {
	if len(text) > maxText {
		return fmt.Errorf("%d bytes long, at most %d", len(text), maxText)
	}
	if !utf8.ValidString(text) {
		return fmt.Errorf("%s is not valid UTF-8", quote(text))
	}
	for _, r := range text {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return fmt.Errorf("%s contains the control character %U", quote(text), r)
		}
	}
	switch kindOf(v.Type()) {
	case kindDuration:
		d, err := ParseDuration(text)
		v.SetInt(int64(d))
		return err
	case kindSize:
		s, err := ParseSize(text)
		v.SetInt(int64(s))
		return err
	case kindPrefix:
		p, err := defense.ParseAddressOrPrefix(text)
		if err != nil {
			return fmt.Errorf("%s is not an address or range such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32", quote(text))
		}
		v.Set(reflect.ValueOf(p))
		return nil
	case kindBool:
		switch text {
		case "true", "false":
			v.SetBool(text == "true")
			return nil
		}
		return fmt.Errorf("%s must be true or false", quote(text))
	case kindInt:
		n, err := strconv.ParseInt(text, 10, strconv.IntSize)
		if err != nil {
			return fmt.Errorf("%s is not a whole number", quote(text))
		}
		v.SetInt(n)
		return nil
	case kindFloat:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("%s is not a number such as 0.05", quote(text))
		}
		v.SetFloat(f)
		return nil
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	v.SetString(text)
	return nil
}

// format writes v as it would be written in a file.
func format(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return FormatDuration(x)
	case netip.Prefix:
		if x.IsSingleIP() {
			return x.Addr().String()
		}
		return x.String()
	case float64:
		return strconv.FormatFloat(x, 'g', -1, 64)
	case encoding.TextMarshaler:
		b, err := x.MarshalText()
		if err != nil {
			return ""
		}
		return string(b)
	}
	return fmt.Sprint(v.Interface())
}

// compare orders two values of one numeric kind.
func compare(a, b reflect.Value) int {
	switch {
	case a.CanInt():
		return cmpOf(a.Int(), b.Int())
	case a.CanFloat():
		return cmpOf(a.Float(), b.Float())
	}
	return 0
}

func cmpOf[T int64 | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// checkFormat checks text against one of the formats that tags name.
func checkFormat(name, text string) error {
	switch name {
	case "":
		return nil
	case "listen":
		return checkListen(text)
	case "upstream":
		return checkUpstream(text)
	case "host":
		return checkHost(text)
	}
	panic("config: unknown format " + name)
}

func checkListen(s string) error {
	if p, ok := strings.CutPrefix(s, "unix:"); ok {
		if !path.IsAbs(p) {
			return fmt.Errorf("%s needs an absolute path such as unix:/run/quickthorn.sock", quote(s))
		}
		return nil
	}
	_, port, err := splitHostPort(s)
	if err != nil {
		return err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%s: port %s is not a number from 0 to 65535", quote(s), quote(port))
	}
	return nil
}

// splitHostPort is net.SplitHostPort with errors that say what would be right.
func splitHostPort(s string) (host, port string, err error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		if _, err := strconv.ParseUint(s, 10, 16); err == nil {
			return "", "", fmt.Errorf("%s needs a colon: write %s", quote(s), quote(":"+s))
		}
		return "", "", fmt.Errorf("%s needs a port, as in %s", quote(s), quote(s+":8080"))
	}
	host, port = s[:i], s[i+1:]
	if strings.ContainsAny(host, " /@?#") {
		return "", "", fmt.Errorf("%s is not host:port: write it without scheme and path", quote(s))
	}
	if strings.HasPrefix(host, "[") != strings.HasSuffix(host, "]") || strings.Count(host, ":") > 0 && !strings.HasPrefix(host, "[") {
		return "", "", fmt.Errorf("%s: write an IPv6 address in brackets, as in [::1]:8080", quote(s))
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		host = strings.TrimSuffix(inner, "]")
		if a, err := netip.ParseAddr(host); err != nil || !a.Is6() {
			return "", "", fmt.Errorf("%s: %s is not an IPv6 address", quote(s), quote(host))
		}
	}
	return host, port, nil
}

func checkUpstream(s string) error {
	if p, ok := strings.CutPrefix(s, "unix:"); ok {
		if !path.IsAbs(p) {
			return fmt.Errorf("%s needs an absolute path such as unix:/run/app.sock", quote(s))
		}
		return nil
	}
	if !strings.Contains(s, "://") {
		return fmt.Errorf("%s needs a scheme, as in %s", quote(s), quote("http://"+s))
	}
	u, err := url.Parse(s)
	if err != nil {
		return fmt.Errorf("%s is not a URL such as http://127.0.0.1:3000", quote(s))
	}
	switch u.Scheme {
	case "http", "https", "h2c":
	default:
		return fmt.Errorf("%s: scheme %s is not one of http, https, h2c", quote(s), quote(u.Scheme))
	}
	switch {
	case u.Hostname() == "":
		return fmt.Errorf("%s has no host", quote(s))
	case u.User != nil:
		// Not quoted: it holds a password.
		return errors.New("a user name or password in the URL is not supported")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return fmt.Errorf("%s: write it without path and query: paths reach the upstream as the client sent them", quote(s))
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("%s: port %s is not a number from 1 to 65535", quote(s), quote(p))
		}
	}
	return nil
}

func checkHost(s string) error {
	name := strings.TrimPrefix(s, "*.")
	if a, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		if name != s {
			return fmt.Errorf("%s: an address has no names below it", quote(s))
		}
		if want := a.String(); name != want {
			return fmt.Errorf("%s: write the address as %s", quote(s), want)
		}
		return nil
	}
	if strings.Contains(name, "*") {
		return fmt.Errorf("%s: a * may only stand in front, as in *.example.org", quote(s))
	}
	if strings.ContainsAny(name, ":/") {
		return fmt.Errorf("%s: write the host name alone, without scheme, port and path", quote(s))
	}
	if name == "" || len(name) > 253 {
		return fmt.Errorf("%s is not a host name of 1 to 253 characters", quote(s))
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return fmt.Errorf("%s is not a host name such as www.example.org", quote(s))
		}
		for _, r := range label {
			switch {
			case r >= 0x80:
				return fmt.Errorf("%s: write the name in its ASCII form, beginning with xn--", quote(s))
			case r == '-', r == '_', '0' <= r && r <= '9', 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z':
			default:
				return fmt.Errorf("%s is not a host name such as www.example.org", quote(s))
			}
		}
	}
	return nil
}

// quote bounds and escapes a value for a message.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		return strconv.QuoteToGraphic(s[:most]) + "…"
	}
	return strconv.QuoteToGraphic(s)
}
