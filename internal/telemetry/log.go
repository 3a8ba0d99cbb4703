// Package telemetry is how quickthorn speaks of itself: a structured log and
// Prometheus metrics.
//
// Both are values that are handed around; there is no global logger and no
// default registry. What clients send reaches the log escaped: nothing that is
// logged can move the cursor of the terminal that shows it, begin a new line or
// pass for another entry.
//
// A condition that lasts (a full disk, a store that is away) is logged through a
// [State], once when it begins and once when it ends, never once for each request.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"unicode"
	"unicode/utf8"
)

// NewLogger returns a logger that writes lines to w. The format is "text" or
// "json", the level "debug", "info", "warn" or "error".
func NewLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	o := new(slog.HandlerOptions)
	switch level {
	case "debug":
		o.Level = slog.LevelDebug
	case "info":
		o.Level = slog.LevelInfo
	case "warn":
		o.Level = slog.LevelWarn
	case "error":
		o.Level = slog.LevelError
	default:
		return nil, fmt.Errorf("log level %q is not one of debug, info, warn, error", level)
	}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(escaper{w}, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(escaper{w}, o)), nil
	}
	return nil, fmt.Errorf("log format %q is not one of text, json", format)
}

// escaper escapes what slog's handlers leave but a terminal acts on: DEL (both),
// and in JSON the C1 controls (U+009B begins a sequence like ESC [ does) and
// characters without a glyph, such as those that reverse the direction of
// writing. The handlers write none of these outside values, where \u009b means the
// character in JSON and is plain to a reader in text. A Write is one whole line.
type escaper struct{ w io.Writer }

func (e escaper) Write(line []byte) (int, error) {
	clean := true
	for _, c := range line {
		if c >= 0x7f {
			clean = false
			break
		}
	}
	if clean {
		return e.w.Write(line)
	}
	escaped := make([]byte, 0, len(line)+32)
	for i := 0; i < len(line); {
		r, n := utf8.DecodeRune(line[i:])
		switch {
		case r < utf8.RuneSelf && r != 0x7f, r >= utf8.RuneSelf && unicode.IsPrint(r):
			escaped = append(escaped, line[i:i+n]...)
		case r > 0xffff:
			escaped = append(escaped, `\ufffd`...) // not worth a surrogate pair
		default:
			escaped = fmt.Appendf(escaped, `\u%04x`, r)
		}
		i += n
	}
	if _, err := e.w.Write(escaped); err != nil {
		return 0, err
	}
	return len(line), nil
}
