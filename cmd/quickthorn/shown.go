package main

import (
	"encoding/json"
	"io"

	"github.com/quickthorn/quickthorn/internal/accesslog"
)

// writeJSON writes v for people and programs to read.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// shown returns at most n bytes of a text that others wrote: as it is when no terminal
// would act on it, quoted otherwise.
func shown(s string, n int) string {
	if q := accesslog.Printable(s, n); q != `"`+s+`"` {
		return q
	}
	return s
}
