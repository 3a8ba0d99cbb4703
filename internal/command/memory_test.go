package command

import (
	"log/slog"
	"testing"
)

func TestTheOwnersMemoryLimitGoesBefore(t *testing.T) {
	if got := LimitMemory(&Environment{Environ: []string{"A=b", "GOMEMLIMIT=100MiB"}}, slog.New(slog.DiscardHandler)); got != 0 {
		t.Errorf("%d bytes though GOMEMLIMIT is set", got)
	}
}
