package main

import "github.com/quickthorn/quickthorn/internal/accesslog"

// shown returns at most n bytes of a text that others wrote: as it is when no terminal
// would act on it, quoted otherwise.
func shown(s string, n int) string {
	if q := accesslog.Printable(s, n); q != `"`+s+`"` {
		return q
	}
	return s
}
